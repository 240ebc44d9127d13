"""Is it there? One decision for the whole scene, from its surface and not from a picture.

*Witnesses* speak: things, scraps and planes as wholes, and patches of `PATCH` neighbouring surface points, so that what
was not told from what it stands on has a voice as well. A patch lies on one thing; stray points fill none, and neither
do points that photos contradict each other about, or that only an odd photo speaks for; in a whole these count less. A
whole thing that has a portrait speaks by that more than by its points (see `instances.crops`), in which there is
also what was lifted from photos' cells, which know less, and their neighbours'. Each witness is asked what it is: the
phrase, or one of everything else that has a name (see `SceneDecision.decide`)? With the encoder's logit scale s, it
says to a text

    logit = SHARE s (cosine - level) + TYPICAL z + SIZED l

`level` is the text's mean cosine over the scene's things and planes. Some texts are near to everything ("hubs"), and a
foreign word is often one of them: what counts is how much nearer than to anything else it is (local centring; Hara et
al. 2015). z says how near the text is to everyday words, by their own mean and deviation, within `BOUND`: what rooms
hold is likelier than what none holds. l says whether a thing so large may be called so (see `query.sizes`); a patch
is of the thing that it lies on. SHARE is below 1, because features of a scene are blurred. The phrase gets a chance of
`CHANCE` before anything is seen, and the n others that name things share what is left, so

    log odds = logit(phrase) - log mean exp logit(others) + log(CHANCE / (1 - CHANCE))

A ceiling whose photos look like anything is a ceiling nevertheless: in a room, where a floor and walls were found, what
is a plane of it by its place says to its bare name, "ceiling" or "the wall", at least `KNOWN`.

What the user says is not meant is no other among many: the phrase has to be likelier than that. The score is the chance
that the witness with the best odds is what was asked for; at the threshold or above it is there. Constants were chosen
on rooms for development. They make it no probability: that comes from an encoder's card ("calibration": slope and
offset on the score's log odds, fitted to runs of scenes) or not at all.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.spatial import cKDTree  # pyright: ignore[reportAttributeAccessIssue]
from scipy.special import expit, logit, logsumexp

from ovseg3d.features.maps import normalise
from ovseg3d.instances.layout import FLOOR, NONE, WALL
from ovseg3d.points.semantic_scene import SemanticScene
from ovseg3d.query.hubs import groups_of
from ovseg3d.query.relevancy import CANONICAL

PATCH = 20
"""Points of a patch, at most..."""
EVERY = 16
"""...around each of so many points."""
PURE = 0.7
"""Least share of them that lie on the same thing or plane as the middle one; the others are left out."""
TRUSTED, DOUBTED = 0.5, 0.01
"""Least mean voice of a patch; what a point counts at least in what is left."""
PORTRAIT = 2.0
"""What a thing's portrait counts beside the mean of its points."""
SHARE = 0.7
"""Of the encoder's own sharpness."""
TYPICAL, BOUND = 0.5, 2.0
"""What closeness to everyday words weighs, in logits for each of their deviations, and how many count at most."""
SIZED = 0.5
"""What sizes weigh here; names of a list are told apart with less (`similarity`), where all of them are there."""
CHANCE = 0.1
"""Before anything is seen."""
KNOWN = 0.95
"""Chance that a plane of the room is what its place says."""
SCORES = "scenes, 2"
"""Which scores a card's calibration has to be of: the second way of deciding, with portraits."""
STEADY = 4
"""Things below which a text's level says little; as many with a cosine of 0 are added."""


@dataclass(frozen=True)
class Calibration:
    """From scores to probabilities, as an encoder's card has it."""

    slope: float
    offset: float

    def probability(self, score: float) -> float:
        """Of a score, 0 to 1."""
        return float(expit(self.slope * logit(np.clip(score, 1e-9, 1 - 1e-9)) + self.offset))


def calibration_of(encoder: Any) -> Calibration | None:
    """What an encoder's card says, None where there is none or it is not of the kind that is known here."""
    card = _card(encoder)
    fits = card.get("of") == SCORES and card.get("weight_hash") in (None, getattr(encoder, "weight_hash", None))
    try:
        numbers = [float(card[name]) for name in ("slope", "offset")] if fits else []
    except (TypeError, KeyError, ValueError):
        return None
    return Calibration(*numbers) if numbers and np.isfinite(numbers).all() else None


def canonical_of(encoder: Any) -> tuple[str, ...]:
    """What phrases are compared with unless the user says otherwise: what the encoder's card names, since encoders
    differ in what would do for anything; else LERF's phrases."""
    named = _card(encoder).get("canonical")
    return tuple(map(str, named)) if isinstance(named, list | tuple) and len(named) else CANONICAL


def _card(encoder: Any) -> Mapping[str, Any]:
    card = getattr(encoder, "calibration", None)
    return card if isinstance(card, Mapping) else {}


def voices(agreement: Float[np.ndarray, " points"]) -> Float[np.ndarray, " points"]:
    """How much each point counts, 0 to 1: in full from half of the usual agreement of photos."""
    return (agreement / max(0.5 * float(np.median(agreement)), 1e-6)).clip(0, 1)


@dataclass(frozen=True)
class Candidates:
    """Who speaks about a scene."""

    scene: SemanticScene
    """One point for each witness, things and planes first: its portrait or mean vector, and the place of one of its
    points."""
    members: csr_array
    """Witnesses x points: what each point adds to each mean. Rows add to 1."""
    wholes: int
    """How many are things, scraps and planes."""

    @classmethod
    def of(cls, semantics: SemanticScene) -> "Candidates":
        """Of a scene with at least one point."""
        groups = groups_of(semantics.piece, semantics.plane, frozenset())
        grouped = np.flatnonzero(groups)
        _, first, row = np.unique(groups[grouped], return_index=True, return_inverse=True)
        middle, near = patches(semantics.surface.xyz, semantics.tree)
        alike = groups[near] == groups[middle][:, None]
        voice = voices(semantics.agreement)
        kept = (alike.mean(1) >= PURE) & (voice[near].mean(1) >= TRUSTED)
        kept |= not (kept.any() or len(first))  # somebody has to speak
        middle, near, alike = middle[kept], near[kept], alike[kept]
        patch, _ = np.nonzero(alike)
        rows = np.concatenate([row, len(first) + patch])
        points = np.concatenate([grouped, near[alike]])
        shape = (len(first) + len(middle), len(groups))
        weight = np.maximum(voice, DOUBTED)[points]
        entries = (weight / np.bincount(rows, weight, shape[0])[rows]).astype(np.float32)
        members, sized = csr_array((entries, (rows, points)), shape=shape), semantics.sized
        scene = semantics.take(np.concatenate([grouped[first], middle]))
        vectors = members @ semantics.vectors.astype(np.float32)
        if semantics.instance_crops is not None:
            instances = np.flatnonzero(scene.piece[: len(first)])
            faces = semantics.instance_crops[scene.piece[instances] - 1]
            vectors[instances] = normalise(normalise(vectors[instances]) + PORTRAIT * faces)
        scene = replace(
            scene,
            vectors=vectors,
            sized=None if sized is None else replace(sized, encoded=members @ sized.encoded.astype(np.float32)),
        )
        return cls(scene, members, len(first))

    def levels(self, cosines: Float[np.ndarray, "witnesses texts"]) -> Float[np.ndarray, " texts"]:
        """How near each text is to things and planes on average."""
        return cosines[: self.wholes].sum(0) / (self.wholes + STEADY)

    def on_plane(self, kind: int) -> Bool[np.ndarray, " witnesses"]:
        """Who is a plane of the room as a whole, of a kind: FLOOR, CEILING or WALL. Nobody for NONE, where no floor and
        wall are (a table top is no floor), or for a plane of a few stray points."""
        plane, piece = self.scene.plane, self.scene.piece
        if kind == NONE or plane is None:
            return np.zeros(self.members.shape[0], bool)  # pyright: ignore[reportOptionalSubscript]
        whole = (piece == 0) & (np.arange(len(plane)) < self.wholes) & (np.diff(self.members.indptr) >= PATCH)
        room = all((whole & (plane == part)).any() for part in (FLOOR, WALL))
        return whole & (plane == kind) & room

    def best_whole(self, chance: Float[np.ndarray, " witnesses"]) -> int | None:
        """The thing or plane with the best chance."""
        return int(chance[: self.wholes].argmax()) if self.wholes else None

    def points(self, candidate: int) -> Int[np.ndarray, " members"]:
        """Who they are."""
        return self.members.indices[self.members.indptr[candidate] : self.members.indptr[candidate + 1]]


def patches(
    xyz: Float[np.ndarray, "points 3"],
    tree: cKDTree,  # pyright: ignore[reportUnknownParameterType]
) -> tuple[Int[np.ndarray, " patches"], Int[np.ndarray, "patches patch"]]:
    """Points all over a surface, and the points around each; all points if they are few."""
    middle, count = np.arange(0, len(xyz), EVERY), min(PATCH, len(xyz))
    _, near = tree.query(xyz[middle], k=count, workers=-1)
    return middle, near.reshape(-1, count).astype(np.int64)


def log_sum(logits: Float[np.ndarray, "witnesses others"]) -> Float[np.ndarray, " witnesses"]:
    """Log of the sum of exp; minus infinity for none."""
    if not logits.shape[1]:
        return np.full(len(logits), -np.inf)
    return np.asarray(logsumexp(logits, axis=1))


def chances(
    own: Float[np.ndarray, " witnesses"],
    others: Float[np.ndarray, " witnesses"],
    count: int,
    excluded: Float[np.ndarray, "witnesses excluded"],
    known: Bool[np.ndarray, " witnesses"] | None = None,
) -> Float[np.ndarray, " witnesses"]:
    """The chance that each witness is what was asked for, from logits.

    Args:
        own: of the phrase.
        others: `log_sum` of everything else that it may be.
        count: how much that is.
        excluded: of what is not meant. There is at least one other, or one of these.
        known: who says so by its place, whatever others say; what is not meant still counts.
    """
    own, found = own.astype(np.float64), np.ones(len(own))
    if count:
        found = expit(own - others + np.log(count * CHANCE / (1 - CHANCE)))
    if known is not None:
        found = np.where(known, np.maximum(found, KNOWN), found)
    if excluded.shape[1]:  # as likely is not likelier
        found = np.minimum(found, np.nextafter(expit(own - excluded.max(1)), 0))
    return found
