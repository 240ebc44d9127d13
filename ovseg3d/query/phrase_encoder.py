"""Text vectors of phrases, by the encoder of a run's features; each phrase is encoded once."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from jaxtyping import Float

from ovseg3d.encoders import load_clip
from ovseg3d.encoders.base import TextImageEncoder
from ovseg3d.encoders.hub import only_local
from ovseg3d.encoders.registry import admitted, fetched_for_files
from ovseg3d.errors import ConfigError, RunError
from ovseg3d.points.semantic_scene import FILE
from ovseg3d.query.calibration import canonical_of
from ovseg3d.query.context import RunContext
from ovseg3d.query.default_vocabulary import DEFAULT_VOCABULARY
from ovseg3d.query.relevancy import ensemble
from ovseg3d.query.words import about, tells_a_place
from ovseg3d.runs.devices import DeviceName, resolve_device
from ovseg3d.runs.phrases import check_text


class PhraseEncoder:
    """Encodes phrases for one run; the encoder is loaded on first use.

    Args:
        context: of the run.
        device: used to encode.
        templates: prompts with {} in place of the phrase; a phrase's vector is their mean.
    """

    def __init__(self, context: RunContext, device: DeviceName, templates: Sequence[str]) -> None:
        self._context, self.templates = context, tuple(templates)
        self._device: DeviceName = device
        self._vectors: dict[str, np.ndarray] = {}

    @cached_property
    def clip(self) -> TextImageEncoder:
        """The encoder of the run's features.

        Raises:
            EncoderError: it is not available.
            RunError: its weights differ from those that the run was trained with.
        """
        run, known = self._context.run, self._context.semantics.encoder
        asked = run.trust.clip
        name = asked or admitted(known.name, "clip", run.folder / FILE)
        with only_local(asked is None and not fetched_for_files(name, "clip")):
            clip = load_clip(name, resolve_device(self._device))
        if clip.weight_hash != known.weight_hash:
            raise RunError(
                f"The encoder {known.id} has other weights than when this run was trained",
                where=run.folder,
                fix="name the one that it was trained with (--clip), or train again with --only field,semantics",
            )
        return clip

    @cached_property
    def canonical(self) -> tuple[str, ...]:
        """The default canonical phrases: those of the encoder's calibration, since encoders differ in which phrases fit
        anything; else LERF's. Raises EncoderError, RunError."""
        return canonical_of(self.clip)

    @cached_property
    def usual(self) -> Float[np.ndarray, " dim"]:
        """Mean vector of the default vocabulary."""
        return self.encode(DEFAULT_VOCABULARY).mean(0)

    def encode(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases dim"]:
        """Unit vectors of phrases. A phrase that states a location ("a mug on the table") is averaged with its head
        ("a mug"), since the whole sentence is as near to the location.

        Raises:
            ConfigError: a phrase is empty, or has characters that no encoder takes.
            EncoderError: a phrase is too long for the encoder, or the encoder is not available.
            RunError: the encoder's weights differ from those that the run was trained with.
        """
        if not phrases:
            return np.zeros((0, self._context.semantics.basis.axes.shape[0]), np.float32)
        new = [phrase for phrase in dict.fromkeys(phrases) if phrase not in self._vectors]
        if new:
            for phrase in new:
                if not phrase.strip():
                    raise ConfigError("A phrase is empty", fix='such as: ovseg3d query RUN "a red chair"')
                check_text(phrase)
            placed = [k for k, phrase in enumerate(new) if tells_a_place(phrase)]
            vectors = self._said([*new, *(" ".join(about(new[k])) for k in placed)])
            whole, heads = vectors[: len(new)].copy(), vectors[len(new) :]
            whole[placed] = ensemble([whole[placed], heads])
            self._vectors |= dict(zip(new, whole))
        return np.stack([self._vectors[phrase] for phrase in phrases])

    def _said(self, phrases: Sequence[str]) -> Float[np.ndarray, "phrases dim"]:
        """Unit vectors of phrases, averaged over the templates."""
        said = [[template.replace("{}", phrase) for phrase in phrases] for template in self.templates]
        vectors = [self.clip.encode_text(texts).detach().float().cpu().numpy() for texts in said]
        return vectors[0] if len(vectors) == 1 else ensemble(vectors)
