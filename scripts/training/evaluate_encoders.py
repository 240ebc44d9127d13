"""Measure the built-in encoders, (a) to (f), each row beside its baselines, in columns seen and unseen.

python -m scripts.training.evaluate_encoders                       # everything, about half an hour on two cores
python -m scripts.training.evaluate_encoders --rows a,b,c --count 400
python -m scripts.training.evaluate_encoders --rows f --assets $OVSEG3D_DATA/aws_small_house
python -m scripts.training.evaluate_encoders --rows d,e --rooms dev  # playroom and desk, by which settings are chosen

"seen" rooms are furnished from what training drew from, with seeds of their own; "unseen" rooms are 1001-1005, which
hold held-out styles, textures, lights and colours too. Settings are chosen on `dev`, never on these. Figures go to
--output as JSON, with the rows as a markdown table and the confusion of (a) as an image beside it; --card writes the
model card, card.json, into the measured encoders' folders.
"""

import json
import os
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from scripts import ROOT
from scripts.training import measures as m
from scripts.training.cards import write_cards
from scripts.training.compared_encoders import Clip, Colour, Dino

NAMES = {
    "a": "(a) naming an object, top-1", "b": "(b) colour + kind, top-1", "c": "(c) synonyms, top-1",
    "d": "(d) dense labels of rooms, mIoU", "e probe": "(e) linear probe, other rooms",
    "e transfer": "(e) k-NN label transfer, other rooms", "e same room": "(e) k-NN label transfer, same room",
    "f": "(f) rooms of other people's models, mIoU",
}  # fmt: skip
SEEN_ROOMS, UNSEEN_ROOMS, PROBE_ROOMS = range(3001, 3006), range(1001, 1006), range(4001, 4033)


@dataclass
class Table:
    """Rows of name, figures by column, baselines by column, command."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, key: str, figures: dict[str, float], baselines: dict[str, dict[str, float]], **more: Any) -> None:
        row = {"key": key, "name": NAMES[key], "figures": figures, "baselines": baselines, **more}
        self.rows.append(row)
        print(json.dumps({k: v for k, v in row.items() if k != "confusion"}, default=str), flush=True)

    def markdown(self) -> str:
        """The table of the docs."""
        lines = ["| measure | seen | unseen | baselines, seen (unseen) | command |", "|---|---|---|---|---|"]
        for row in self.rows:
            beside = "; ".join(
                f"{name} {_percent(values.get('seen'))}"
                + (f" ({_percent(values['unseen'])})" if "unseen" in values else "")
                for name, values in row["baselines"].items()
            )
            figures = row["figures"]
            command = f"`python -m scripts.training.evaluate_encoders --rows {row['key'][0]}`"
            cells = [row["name"], _percent(figures.get("seen")), _percent(figures.get("unseen")), beside, command]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Evaluate:
    """Measure the built-in encoders."""

    rows: str = "a,b,c,d,e,f"
    """Rows to measure, with commas."""
    clip: Path = ROOT / "ovseg3d/encoders/builtin/clip"
    """Folder of the text-image encoder."""
    dino: Path = ROOT / "ovseg3d/encoders/builtin/dino"
    """Folder of the self-supervised one."""
    output: Path = ROOT / "outputs/encoders/figures.json"
    """JSON; the table and the image go beside it."""
    work: Path = ROOT / "outputs/encoders/rooms"
    """Where rooms are rendered to; those that are there are used again."""
    count: int = 1500
    """Object-centred views of each split."""
    views: int = 8
    """Held-out views of each room, and as many training views."""
    probe_rooms: int = 8
    """Other rooms, of the seen split, that (e)'s probe and the baselines learn from."""
    rooms: str = "report"
    """"report" (seen and unseen rooms) or "dev" (playroom and desk, in the column seen)."""
    scale: float = 1.0
    """Enlargement of photos of rooms (240 x 180) before windows are cut from them."""
    assets: Path | None = None
    """A capture of other people's models for (f); default: aws_small_house and household in $OVSEG3D_DATA."""
    card: bool = False
    """Write card.json into the folder of each encoder that rows are measured of (of the first: all its rows)."""
    device: str = "cpu"
    """cpu or cuda."""
    threads: int = 2
    """Threads on the CPU."""

    def main(self) -> int:
        """All rows; returns 0."""
        from ovseg3d.files import write_atomic, write_json

        torch.set_num_threads(self.threads)
        wanted, table, began = set(self.rows.split(",")), Table(), time.monotonic()
        of_clip = wanted & set("abcdf")
        if self.card and of_clip and of_clip != set("abcdf"):
            sys.exit("--card writes the whole card anew: give --rows a,b,c,d,f (or e) with it")
        probes = [f"probe_{seed}" for seed in PROBE_ROOMS[: self.probe_rooms]]
        known = self.render(probes) if wanted & {"d", "e"} else []
        rooms = self.report_rooms() if wanted & {"d", "e"} else {}
        found: dict[str, Any] = {}
        if of_clip:
            clip = Clip(self.clip, self.device)
            if wanted & {"a", "b", "c"}:
                found |= self.objects(clip, wanted, table)
            if "d" in wanted:
                self.dense(clip, rooms, known, table)
            if "f" in wanted:
                self.others(clip, table)
        if "e" in wanted:
            self.patches(rooms, known, table)
        found |= {"rows": table.rows, "seconds": time.monotonic() - began, "settings": asdict(self)}
        write_json(self.output, found)
        write_atomic(self.output.with_suffix(".md"), table.markdown().encode())
        if self.card:
            write_cards(self.clip, self.dino, found)
        print(table.markdown())
        return 0

    def objects(self, clip: Clip, wanted: set[str], table: Table) -> dict[str, Any]:
        """(a), (b), (c)."""
        from ovseg3d.synth.examples import KINDS, SYNONYMS
        from ovseg3d.synth.holdout import HELD_COLOURS
        from ovseg3d.synth.looks import COLOURS

        size = clip.side
        seen = m.object_views(9001, self.count, "seen", size)
        unseen = m.object_views(9002, self.count, "unseen", size)
        known = m.object_views(9003, 2 * self.count, "seen", size)
        found: dict[str, Any] = {}
        chance = {"seen": 1 / len(KINDS), "unseen": 1 / len(KINDS)}
        if "a" in wanted:
            figures, colour, confusion = {}, {}, {}
            for column, views in (("seen", seen), ("unseen", unseen)):
                figures[column], confusion[column] = m.naming(clip, views, KINDS)
                colour[column] = m.by_colour(known, views, KINDS)[0]
            table.add("a", figures, {"chance": chance, "mean colour k-NN": colour})
            draw_confusion(self.output.with_name("confusion.png"), confusion, KINDS)
            found["confused"] = worst(confusion["seen"], KINDS)
        if "b" in wanted:
            palette = [c for c in COLOURS if c not in HELD_COLOURS]
            held = m.object_views(9004, self.count, "pairs", size)
            both = {name: m.pairs(clip, views, KINDS, palette) for name, views in (("seen", seen), ("unseen", held))}
            colour = {name: m.by_colour(known, views, KINDS)[1] for name, views in (("seen", seen), ("unseen", held))}
            one = 1 / (len(KINDS) * len(palette))
            table.add(
                "b", {k: v["pairs"] for k, v in both.items()},
                {"chance": {"seen": one, "unseen": one}, "mean colour k-NN": colour}, details=both,
            )  # fmt: skip
        if "c" in wanted:
            said = {
                name: m.synonyms(clip, views, KINDS, SYNONYMS) for name, views in (("seen", seen), ("unseen", unseen))
            }
            table.add("c", {k: v["top-1"] for k, v in said.items()}, {"chance": chance}, words=said["seen"]["words"])
        return found

    def dense(self, clip: Clip, rooms: dict[str, list[m.RoomViews]], known: list[m.RoomViews], table: Table) -> None:
        """(d)."""

        def score(make) -> dict[str, float]:
            return {
                column: float(np.mean([m.miou(make(room), room.labels, len(room.phrases)) for room in group]))
                for column, group in rooms.items()
            }

        random = np.random.default_rng(0)
        chance = score(lambda room: [random.integers(1, len(room.phrases) + 1, label.shape) for label in room.labels])
        each = {}

        def ours(room: m.RoomViews) -> list[np.ndarray]:
            made = m.dense_labels(clip, room, self.scale)
            each[room.name] = m.miou(made, room.labels, len(room.phrases))
            return made

        beside = {
            "chance": chance, "colour k-NN": score(lambda room: m.colour_labels(room, known)),
            "height and size, true outlines": score(lambda room: m.size_labels(room, known)),
        }  # fmt: skip
        table.add("d", score(ours), beside, rooms=each)

    def patches(self, rooms: dict[str, list[m.RoomViews]], known: list[m.RoomViews], table: Table) -> None:
        """(e)."""
        dino = Dino(self.dino, self.device)
        encoders = {"ours": dino, "raw colour": Colour(dino.patch), "untrained": Dino(self.dino, self.device, True)}
        for key, measure in (
            ("e probe", lambda encoder, group: m.probe(encoder, known, group, self.scale)),
            ("e transfer", lambda encoder, group: m.transfer(encoder, known, group, self.scale)),
            ("e same room", lambda encoder, group: m.transfer(encoder, None, group, self.scale)),
        ):
            scores = {
                name: {column: measure(encoder, group) for column, group in rooms.items()}
                for name, encoder in encoders.items()
            }
            table.add(key, scores.pop("ours"), scores)

    def others(self, clip: Clip, table: Table) -> None:
        """(f)."""
        data = Path(os.environ.get("OVSEG3D_DATA", "/nowhere"))
        folders = [self.assets] if self.assets else [data / "aws_small_house", data / "household"]
        rooms = [self.render([f"assets_{f.resolve().name}"], f)[0] for f in folders if f.is_dir()]
        if not rooms:
            print("(f) needs --assets, or $OVSEG3D_DATA with aws_small_house and household: left out", flush=True)
            return
        random, each, chance = np.random.default_rng(0), {}, []
        for room in rooms:
            each[room.name] = m.miou(m.dense_labels(clip, room, self.scale), room.labels, len(room.phrases))
            guesses = [random.integers(1, len(room.phrases) + 1, label.shape) for label in room.labels]
            chance.append(m.miou(guesses, room.labels, len(room.phrases)))
        figures, beside = {"unseen": float(np.mean(list(each.values())))}, {"unseen": float(np.mean(chance))}
        table.add("f", figures, {"chance": beside}, rooms=each)

    def report_rooms(self) -> dict[str, list[m.RoomViews]]:
        """Rooms by column."""
        if self.rooms == "dev":
            return {"seen": [m.load_room(ROOT / "scenes" / name, self.views) for name in ("playroom", "desk")]}
        return {
            "seen": self.render([f"seen_{seed}" for seed in SEEN_ROOMS]),
            "unseen": self.render([f"room_{seed}" for seed in UNSEEN_ROOMS]),
        }

    def render(self, names: list[str], assets: Path | None = None) -> list[m.RoomViews]:
        """Rooms by name, rendered where they are not there yet."""
        from ovseg3d.synth import Views, synthesise
        from ovseg3d.synth.furnish import random_room
        from ovseg3d.synth.holdout import SEEN
        from ovseg3d.synth.write import write_room

        found = []
        for name in names:
            kind, _, rest = name.partition("_")
            folder = self.work / (name if kind == "room" else f"{name}_{self.views}")
            if not folder.is_dir():
                print(f"rendering {name}", flush=True)
                few = Views(train=2 * self.views, test=self.views, depth="none")
                if kind == "assets":
                    worlds = sorted(assets.glob("worlds/*")) if assets else []
                    synthesise(folder, assets=assets, world=worlds[0] if worlds else None, seed=0, views=few)
                elif kind == "room":
                    synthesise(folder, seed=int(rest))  # size and number of views like playroom's
                else:
                    room = random_room(int(rest), pool=SEEN)
                    write_room(room, folder, {"room": None, "seed": int(rest)}, views=few, seed=int(rest))
            found.append(m.load_room(folder, self.views))
        return found


def worst(confusion: np.ndarray, kinds: tuple[str, ...], count: int = 12) -> list[str]:
    """The commonest confusions, in words."""
    share = confusion / confusion.sum(1, keepdims=True).clip(1)
    np.fill_diagonal(share, 0)
    order = np.argsort(share, axis=None)[::-1][:count]
    pairs = [np.unravel_index(i, share.shape) for i in order]
    return [f"{kinds[a]} taken for {kinds[b]}: {share[a, b]:.0%}" for a, b in pairs if share[a, b] > 0]


def draw_confusion(path: Path, confusion: dict[str, np.ndarray], kinds: tuple[str, ...]) -> None:
    """The confusion of (a) as an image: how often each kind gets its name, seen and unseen, and what it is taken for.

    A matrix of so many kinds cannot be read at the size of a page; its largest entry of each row can.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from ovseg3d.files import write_atomic

    shares = {name: counts / counts.sum(1, keepdims=True).clip(1) for name, counts in confusion.items()}
    right = {name: 100 * np.diag(share) for name, share in shares.items()}
    order = np.lexsort([np.arange(len(kinds)), right["unseen"], right["seen"]])
    rows = np.arange(len(kinds))
    figure, axis = plt.subplots(figsize=(11, 0.2 * len(kinds) + 1.6), layout="constrained")
    axis.hlines(rows, right["unseen"][order], right["seen"][order], color="0.8", linewidth=1.2, zorder=1)
    axis.scatter(right["seen"][order], rows, s=26, color="#0072b2", label="seen styles", zorder=3)
    axis.scatter(right["unseen"][order], rows, s=26, facecolor="white", edgecolor="#d55e00", label="unseen styles",
                 linewidth=1.4, zorder=2)  # fmt: skip
    axis.set_yticks(rows, [kinds[k] for k in order], fontsize=8)
    axis.set(xlim=(-3, 103), ylim=(-0.8, len(kinds) - 0.2), xlabel="pictures that get their name, %")
    axis.grid(axis="x", color="0.92")
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.tick_params(axis="y", length=0)
    axis.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=9)
    for column, (name, colour) in enumerate((("seen", "#0072b2"), ("unseen", "#d55e00"))):
        left = 1.03 + 0.27 * column
        axis.text(left, 1.012, f"{name}: taken for", color=colour, fontsize=9, transform=axis.transAxes)
        for row, kind in enumerate(order):
            others = shares[name][kind] * (np.arange(len(kinds)) != kind)
            if others.max() >= 0.03:
                words = f"{kinds[others.argmax()]} {others.max():.0%}"
                axis.text(left, row, words, fontsize=8, va="center", transform=axis.get_yaxis_transform())
    write_atomic(path, lambda temporary: figure.savefig(temporary, dpi=100, bbox_inches="tight"))
    plt.close(figure)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


if __name__ == "__main__":
    sys.exit(tyro.cli(Evaluate).main())
