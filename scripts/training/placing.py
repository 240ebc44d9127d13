"""The loss that aligns the embedding of an image of one object with texts.

The embedding is pulled to the object's phrase and its synonyms. Texts that are present score above the canonical
phrases, absent texts below.

The first caption states the subject of an image (`captions.subject`). Images whose captions name other objects too are
left out: with them, recognition of whole objects was worse.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ovseg3d.query.relevancy import CANONICAL
from ovseg3d.synth.captions import article
from scripts.training.captions import named, subject
from scripts.training.losses import presence_loss, standing_loss
from scripts.training.text import Related


class Placing:
    """The loss of whole images.

    Args:
        names: all object names that captions may contain, without articles.
        pairs: all (colour, name) that training may show.
        related: everyday words, with the `names` that each means and those that it does not mean.
        device: device of the computation.
    """

    def __init__(
        self, names: Sequence[str], pairs: Sequence[tuple[str, str]], related: Related, device: str = "cpu"
    ) -> None:
        self.names, self.pairs, self.related, self.device = tuple(names), tuple(pairs), related, device
        number = {name: row for row, name in enumerate(self.names)}
        colours = {colour: row for row, colour in enumerate(dict.fromkeys(colour for colour, _ in self.pairs))}
        told = torch.tensor([[colours[colour], number[name]] for colour, name in self.pairs], dtype=torch.long)
        self.colour, self.kind = told.view(-1, 2).T.to(device)
        phrases = [*self.names, *(f"{colour} {name}" for colour, name in self.pairs), *related.words]
        self.texts = [*map(article, phrases), *CANONICAL]
        """Texts whose embeddings `__call__` takes, in this order."""
        self.parts = [len(self.names), len(self.pairs), len(related.words), len(CANONICAL)]

    def __call__(
        self, vectors: Tensor, texts: Tensor, captions: Sequence[Sequence[str]], scale: Tensor, *,
        pull: float, pair: float, word: float, presence: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """The loss, and figures of its parts by name. The loss is zero if no image shows a single object.

        Args:
            vectors: image embeddings, (images, dim), unit length.
            texts: embeddings of `self.texts`, (texts, dim), unit length.
            captions: captions of each image, the simplest first.
            scale: factor from cosines to logits.
            pull: weight of the cosine distance between an image and its object's phrase.
            pair: weight of the cross-entropy of the object's (colour, name) against other colours of the same name
                and unmentioned names of the same colour.
            word: weight of `standing_loss`: synonyms against unmentioned names.
            presence: weight of `presence_loss`.
        """
        shown, undecided = named(captions, self.names)
        subjects = [subject(tuple(own), self.names, self.pairs) for own in captions]
        alone = (shown.sum(1) == 1).tolist()
        rows = [row for row, found in enumerate(subjects) if found is not None and alone[row]]
        if not rows:
            return vectors.sum() * 0.0, {}
        own, told = torch.tensor([subjects[row] for row in rows]).T.to(self.device)
        shown, undecided = shown[rows].to(self.device), undecided[rows].to(self.device)
        vectors, known = vectors[rows], told >= 0
        names, pairs, words, canonical = texts.split(self.parts)

        phrase = names[own].where(~known[:, None], pairs[told.clamp(min=0)] if self.pairs else names[own])
        near = (vectors * phrase).sum(-1).mean()
        loss, figures = pull * (1 - near), {"pulled": near}
        if known.any():
            # For a white mug on a white floor, "white floor" is no negative.
            beside = (shown | undecided)[known][:, self.kind]
            alike = (self.colour == self.colour[told[known], None]) & ~beside
            alternatives = alike | (self.kind == own[known, None])
            scores = (2 * scale * (vectors[known] @ pairs.T)).masked_fill(~alternatives, -torch.inf)
            loss = loss + pair * F.cross_entropy(scores, told[known])
        by_name, by_word = scale * vectors @ names.T, scale * vectors @ words.T
        means, far = (mask.to(self.device) for mask in (self.related.means, self.related.far))
        figures["words loss"] = standing_loss(by_name, by_word, shown | undecided, means.T[own])
        # A word is absent only if it is unrelated to every name in the captions.
        doubtful = (shown | undecided).float() @ (~far).float().T > 0
        anything = (scale * vectors @ canonical.T).amax(1, keepdim=True)
        figures["presence loss"] = presence_loss(
            torch.cat([by_name, by_word], 1) - anything,
            torch.cat([F.one_hot(own, len(self.names)).bool(), means.T[own]], 1),
            torch.cat([~shown & ~undecided, ~doubtful], 1),
        )
        return loss + word * figures["words loss"] + presence * figures["presence loss"], figures
