"""Where an image of one object belongs among texts: at that object's phrase, with every word that means it, above what
would do for anything, and that above whatever is not there.

What an image is of stands in its first caption (`captions.subject`). Images whose captions name other objects too are
left out: placing these as well cost whole objects their names.
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
        names: of all objects that captions may name, without articles.
        pairs: (colour, name) that training may show.
        related: everyday words, which of `names` they mean, and which surely not.
        device: where to compute.
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
        """What `__call__` wants vectors of, in this order."""
        self.parts = [len(self.names), len(self.pairs), len(related.words), len(CANONICAL)]

    def __call__(
        self, vectors: Tensor, texts: Tensor, captions: Sequence[Sequence[str]], scale: Tensor, *,
        pull: float, pair: float, word: float, presence: float,
    ) -> tuple[Tensor, dict[str, Tensor]]:  # fmt: skip
        """The loss, and its parts by name; zero where no image is of one object.

        Args:
            vectors: of images, (images, dim), unit length.
            texts: vectors of `self.texts`, (texts, dim), unit length.
            captions: of each image, the plainest first.
            scale: factor from cosines to logits.
            pull: how firmly an image is pulled to its object's phrase.
            pair: weight of the object's phrase against other colours of it and unmentioned objects of its colour.
            word: weight of words that mean it, against the names of everything else.
            presence: weight of the question whether something is there at all.
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
            beside = (shown | undecided)[known][:, self.kind]  # a white floor under a white mug is no negative
            alike = (self.colour == self.colour[told[known], None]) & ~beside
            alternatives = alike | (self.kind == own[known, None])
            scores = (2 * scale * (vectors[known] @ pairs.T)).masked_fill(~alternatives, -torch.inf)
            loss = loss + pair * F.cross_entropy(scores, told[known])
        by_name, by_word = scale * vectors @ names.T, scale * vectors @ words.T
        means, far = (mask.to(self.device) for mask in (self.related.means, self.related.far))
        figures["words loss"] = standing_loss(by_name, by_word, shown | undecided, means.T[own])
        # A word is out of the question if it is far from everything that is named.
        doubtful = (shown | undecided).float() @ (~far).float().T > 0
        anything = (scale * vectors @ canonical.T).amax(1, keepdim=True)
        figures["presence loss"] = presence_loss(
            torch.cat([by_name, by_word], 1) - anything,
            torch.cat([F.one_hot(own, len(self.names)).bool(), means.T[own]], 1),
            torch.cat([~shown & ~undecided, ~doubtful], 1),
        )
        return loss + word * figures["words loss"] + presence * figures["presence loss"], figures
