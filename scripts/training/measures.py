"""The measures of the built-in encoders, (a) to (f), each beside its baselines.

(a) naming: the image of one object against "a KIND" for every kind.
(b) pairs: the same against "a COLOUR KIND" for every colour and kind together.
(c) synonyms: naming with the right kind's phrase replaced by its synonym; one question for each.
(d) dense: every pixel of room views gets the nearest of the room's phrases; mIoU over the phrases that are there.
(e) patches: kinds of patches from those of other rooms, by a linear probe and by nearest neighbours; and by nearest
    neighbours from other views of the same room, where colour alone is a strong baseline.
(f) as (d), on rooms furnished with other people's models.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scripts.training.compared_encoders import Clip, PatchEncoder, to_patches

NEIGHBOURS = 15


@dataclass(frozen=True)
class ObjectViews:
    """Object-centred views, (views, 3, side, side), with kinds and colours."""

    images: Tensor
    kinds: tuple[str, ...]
    colours: tuple[str | None, ...]


def object_views(seed: int, count: int, split: str, size: int) -> ObjectViews:
    """Images of one object each."""
    from ovseg3d.synth.examples import object_example

    made = [object_example(seed, index, size, split=split) for index in range(count)]
    images = torch.from_numpy(np.stack([e.image for e in made])).permute(0, 3, 1, 2).float() / 255
    return ObjectViews(images, tuple(str(e.kind) for e in made), tuple(e.color for e in made))


def naming(clip: Clip, views: ObjectViews, kinds: Sequence[str]) -> tuple[float, np.ndarray]:
    """(a) top-1, and the confusion matrix (kinds, kinds): rows are true."""
    said = (clip.image(views.images) @ clip.text([phrase(k) for k in kinds]).T).argmax(1).tolist()
    confusion = np.zeros((len(kinds), len(kinds)), int)
    for kind, answer in zip(views.kinds, said):
        confusion[kinds.index(kind), answer] += 1
    return float(np.trace(confusion) / max(1, confusion.sum())), confusion


def pairs(clip: Clip, views: ObjectViews, kinds: Sequence[str], colours: Sequence[str]) -> dict[str, float]:
    """(b) top-1 among all pairs; and of the colour alone when the kind is given."""
    every = [(colour, kind) for kind in kinds for colour in colours]
    scores = clip.image(views.images) @ clip.text([phrase(f"{colour} {kind}") for colour, kind in every]).T
    right, given, count = 0, 0, 0
    for row, kind, colour in zip(scores, views.kinds, views.colours):
        if colour in colours:
            count += 1
            right += every[int(row.argmax())] == (colour, kind)
            own = row[[i for i, (_, k) in enumerate(every) if k == kind]]
            given += colours[int(own.argmax())] == colour
    return {"pairs": right / max(1, count), "colour given kind": given / max(1, count)}


def synonyms(clip: Clip, views: ObjectViews, kinds: Sequence[str], words: Sequence[tuple[str, str]]) -> dict:
    """(c) top-1 over synonyms (each counts the same), and of each word."""
    images, named = clip.image(views.images), clip.text([phrase(k) for k in kinds])
    others = images @ named.T
    found = {}
    for (word, kind), vector in zip(words, clip.text([phrase(w) for w, _ in words])):
        rows = torch.tensor([i for i, k in enumerate(views.kinds) if k == kind], dtype=torch.long)
        if kind in kinds and len(rows):
            alternatives = others[rows].clone()
            alternatives[:, kinds.index(kind)] = -2.0
            found[word] = float((images[rows] @ vector > alternatives.max(1).values).float().mean())
    return {"top-1": float(np.mean(list(found.values()))) if found else math.nan, "words": found}


def by_colour(known: ObjectViews, views: ObjectViews, kinds: Sequence[str]) -> tuple[float, float]:
    """Accuracy of kinds, and of pairs of kind and colour, by nearest neighbours in mean colour."""

    def colours(images: Tensor) -> Tensor:
        side = images.shape[-1] // 4
        middle = images[..., side:-side, side:-side]
        return torch.cat([middle.mean((2, 3)), images.mean((2, 3))], 1)

    near = torch.cdist(colours(views.images), colours(known.images)).topk(NEIGHBOURS, largest=False).indices
    kind, pair, counted = 0, 0, 0
    for row, true, colour in zip(near.tolist(), views.kinds, views.colours):
        names, both = [known.kinds[i] for i in row], [(known.kinds[i], known.colours[i]) for i in row]
        kind += max(set(names), key=names.count) == true
        counted += colour is not None
        pair += colour is not None and max(set(both), key=both.count) == (true, colour)
    return kind / len(views.kinds), pair / max(1, counted)


def phrase(words: str) -> str:
    """With its article, as captions have it."""
    return f"{'an' if words[0].lower() in 'aeiou' else 'a'} {words}"


@dataclass(frozen=True)
class RoomViews:
    """Photos (h, w, 3) of a room with label images, 0 none; `phrases[i - 1]` is label i."""

    name: str
    photos: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]
    train: tuple[np.ndarray, ...]
    train_labels: tuple[np.ndarray, ...]
    phrases: tuple[str, ...]
    objects: tuple[dict, ...]


def load_room(folder: Path, views: int) -> RoomViews:
    """Held-out views of a scene folder, and as many of its training views, spread evenly."""
    from ovseg3d.scene import load_scene
    from ovseg3d.scene.images import load_labels, load_photo

    scene, description = load_scene(folder), json.loads((folder / "transforms.json").read_text())
    held = {Path(name).stem for name in description["test_filenames"]}

    def some(test: bool) -> tuple[tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
        frames = [f for f in scene.frames if (Path(f.name).stem in held) == test]
        frames = [frames[i] for i in sorted(set(np.linspace(0, len(frames) - 1, views).round().astype(int)))]
        return tuple(np.asarray(load_photo(f))[..., :3] for f in frames), tuple(load_labels(f) for f in frames)

    classes = description["classes"]
    phrases = tuple(classes[str(index)] for index in range(1, len(classes) + 1))
    objects = tuple(json.loads((folder / "objects.json").read_text()))
    return RoomViews(folder.name, *some(True), *some(False), phrases, objects)


def miou(predicted: Sequence[np.ndarray], labels: Sequence[np.ndarray], classes: int) -> float:
    """Mean over the classes that are there, over all views together; label 0 and 255 do not count."""
    hit, either, there = (np.zeros(classes + 1) for _ in range(3))
    for one, true in zip(predicted, labels):
        valid = (true > 0) & (true <= classes)
        one, true = one[valid], true[valid]
        hit += np.bincount(true[one == true], minlength=classes + 1)[: classes + 1]
        there += np.bincount(true, minlength=classes + 1)[: classes + 1]
        either += np.bincount(true, minlength=classes + 1)[: classes + 1] + np.bincount(one, minlength=classes + 1)
    either -= hit
    seen = there[1:] > 0
    return float((hit[1:][seen] / either[1:][seen]).mean())


def dense_labels(clip: Clip, room: RoomViews, scale: float) -> list[np.ndarray]:
    """(d) the nearest phrase of every pixel, 1 and up."""
    text = clip.text([phrase(p) for p in room.phrases])
    found = []
    for photo in room.photos:
        grid = clip.dense(to_patches(photo, scale, clip.patch, clip.side))
        scores = torch.einsum("vdij,td->vtij", grid, text)
        full = F.interpolate(scores, size=photo.shape[:2], mode="bilinear", align_corners=False)
        found.append(full[0].argmax(0).numpy() + 1)
    return found


def colour_labels(room: RoomViews, known: Sequence[RoomViews], seed: int = 0) -> list[np.ndarray]:
    """The same from the mean colours that objects of these phrases have in other rooms, by nearest neighbours."""
    random = np.random.default_rng(seed)
    colours, names = [], []
    for other in known:
        for photo, label in zip(other.train, other.train_labels):
            rows = random.integers(0, label.size, 400)
            valid = [r for r in rows if 0 < label.flat[r] <= len(other.phrases)]
            colours += [photo.reshape(-1, 3)[r] for r in valid]
            names += [_kind(other, int(label.flat[r])) for r in valid]
    own = [_kind(room, i + 1) for i in range(len(room.phrases))]
    keep = [i for i, name in enumerate(names) if name in own]
    if not keep:
        return [np.ones(photo.shape[:2], int) for photo in room.photos]
    from scipy.spatial import cKDTree

    tree, target = cKDTree(np.array([colours[i] for i in keep], float)), np.array([own.index(names[i]) for i in keep])
    found = []
    for photo in room.photos:
        pixels, count = photo[::2, ::2].reshape(-1, 3), min(NEIGHBOURS, len(keep))
        near = tree.query(pixels, k=count)[1].reshape(-1, count)
        votes = np.stack([(target[near] == i).sum(1) for i in range(len(own))], 1).argmax(1) + 1
        small = votes.reshape(photo[::2, ::2].shape[:2])
        found.append(small.repeat(2, 0).repeat(2, 1)[: photo.shape[0], : photo.shape[1]])
    return found


def size_labels(room: RoomViews, known: Sequence[RoomViews]) -> list[np.ndarray]:
    """The same from height and size alone, given every object's true outline: the kind whose boxes are most alike."""
    boxes, names = [], []
    for other in known:
        for instance in other.objects:
            boxes.append(_shape(instance))
            names.append(instance["category"])
    own = [_kind(room, i + 1) for i in range(len(room.phrases))]
    keep = [i for i, name in enumerate(names) if name in own]
    # Walls, floor and ceiling have no box: they are taken as known, in this baseline's favour.
    change = np.arange(len(own) + 1)
    for index, text in enumerate(room.phrases):
        mine = [_shape(t) for t in room.objects if t.get("phrase", t["category"]) == text]
        if mine and not keep:
            change[index + 1] = 0
        elif mine:
            distance = np.linalg.norm(np.array([boxes[i] for i in keep])[:, None] - np.array(mine), axis=-1).min(1)
            change[index + 1] = own.index(names[keep[int(distance.argmin())]]) + 1
    return [change[np.clip(label, 0, len(own))] for label in room.labels]


def _kind(room: RoomViews, label: int) -> str:
    """The kind of a label: its object's category, or for walls and the like the phrase itself."""
    text = room.phrases[label - 1]
    return next((t["category"] for t in room.objects if t.get("phrase", t["category"]) == text), text)


def _shape(instance: dict) -> np.ndarray:
    size = np.maximum(np.array(instance["size"], float), 1e-3)
    across = np.sort(size[:2])[::-1]
    return np.concatenate([[instance["center"][2]], np.log([*across, size[2]])])


def patch_labels(label: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The label at each patch's centre."""
    y = ((np.arange(rows) + 0.5) / rows * label.shape[0]).astype(int)
    x = ((np.arange(columns) + 0.5) / columns * label.shape[1]).astype(int)
    return label[np.ix_(y, x)]


def gather(encoder: PatchEncoder, room: RoomViews, train: bool, scale: float) -> tuple[Tensor, list[str]]:
    """Features (points, dim) and kinds of a room's patches."""
    features, kinds = [], []
    for photo, label in zip(room.train if train else room.photos, room.train_labels if train else room.labels):
        side = encoder.side
        grid = encoder.dense(to_patches(photo, scale, encoder.patch, side))[0]
        there = patch_labels(label, *grid.shape[-2:]).ravel()
        valid = (there > 0) & (there <= len(room.phrases))
        features.append(grid.flatten(1).T[torch.from_numpy(valid)])
        kinds += [_kind(room, int(i)) for i in there[valid]]
    return torch.cat(features), kinds


def transfer(
    encoder: PatchEncoder,
    known: Sequence[RoomViews] | None,
    rooms: Sequence[RoomViews],
    scale: float,
    neighbours: int = 10,
) -> float:
    """(e) share of held-out views' patches that get the right kind from the nearest patches of training views.

    Args:
        encoder: the encoder.
        known: rooms whose training views lend their labels; None: each room's own.
        rooms: whose held-out views are labelled.
        scale: enlargement of photos.
        neighbours: number of patches that vote.
    """
    most, scores = 20_000, []
    shared = [gather(encoder, room, True, scale) for room in known] if known is not None else None
    for room in rooms:
        parts = shared if shared is not None else [gather(encoder, room, True, scale)]
        features, names = torch.cat([f for f, _ in parts]), [n for _, ns in parts for n in ns]
        rows = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))[:most]
        asked, true = gather(encoder, room, False, scale)
        order = sorted(set(names))
        target = torch.tensor([order.index(n) for n in names])[rows]
        k = min(neighbours, len(rows))
        near = [torch.cdist(p, features[rows]).topk(k, largest=False).indices for p in asked.split(1024)]
        said = F.one_hot(target[torch.cat(near)], len(order)).sum(1).argmax(1).tolist()
        scores.append(np.mean([order[i] == t for i, t in zip(said, true)]))
    return float(np.mean(scores))


def probe(encoder: PatchEncoder, known: Sequence[RoomViews], rooms: Sequence[RoomViews], scale: float) -> float:
    """(e) share of patches that a linear classifier names rightly, trained on other rooms (all kinds count)."""
    parts = [gather(encoder, room, True, scale) for room in known]
    features, names = torch.cat([f for f, _ in parts]), [n for _, ns in parts for n in ns]
    order = sorted(set(names))
    target = torch.tensor([order.index(n) for n in names])
    mean, spread = features.mean(0), features.std(0) + 1e-6
    torch.manual_seed(0)
    layer = torch.nn.Linear(features.shape[1], len(order))
    optimiser = torch.optim.AdamW(layer.parameters(), lr=1e-2, weight_decay=1e-3)
    for step in range(400):
        rows = torch.randint(len(features), (2048,))
        loss = F.cross_entropy(layer((features[rows] - mean) / spread), target[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / 400)
        optimiser.step()
    scores = []
    for room in rooms:
        asked, true = gather(encoder, room, False, scale)
        with torch.no_grad():
            said = layer((asked - mean) / spread).argmax(1).tolist()
        scores.append(np.mean([order[i] == t for i, t in zip(said, true)]))
    return float(np.mean(scores))
