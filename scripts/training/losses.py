"""The losses of the tiny CLIP's image tower: images and the cells of their maps against captions and names.

Masks are (views, texts). What is `undecided` of an image is neither right nor wrong. Where names are not equally
common, their logits are raised by a share of the logarithm of how common they are while learning, and only then (Menon
et al. 2021, "Long-tail learning via logit adjustment"): else "a floor", which most images show, wins everywhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def best_patches(tokens: Tensor, phrases: Tensor, sharpness: float) -> Tensor:
    """Cosine of each phrase with the patches that match it best, (views, phrases): a mean weighted by the cosine."""
    cosines = torch.einsum("nkd,td->ntk", tokens, phrases)
    return ((cosines.detach() * sharpness).softmax(-1) * cosines).sum(-1)


def caption_loss(logits: Tensor, own: Tensor, undecided: Tensor) -> Tensor:
    """CLIP's loss where an image has several captions and a caption several images: each against all negatives."""
    return 0.5 * (_one_way(logits, own, undecided) + _one_way(logits.T, own.T, undecided.T))


def _one_way(logits: Tensor, own: Tensor, undecided: Tensor) -> Tensor:
    others = logits.masked_fill(own | undecided, -torch.inf).logsumexp(1, keepdim=True)
    losses = F.softplus(others - logits)
    return (losses * own).sum(1).div(own.sum(1).clamp(min=1)).mean()


def naming_loss(logits: Tensor, shown: Tensor, undecided: Tensor) -> Tensor:
    """Each name that is shown against all that are not; a mean over images with names."""
    others = logits.masked_fill(shown | undecided, -torch.inf).logsumexp(1, keepdim=True)
    losses = (F.softplus(others - logits) * shown).sum(1) / shown.sum(1).clamp(min=1)
    return losses.sum() / shown.any(1).sum().clamp(min=1)


def standing_loss(names: Tensor, words: Tensor, told: Tensor, means: Tensor) -> Tensor:
    """Synonyms of an image's subject against the names of everything else; all synonyms have the same weight.

    Args:
        names: logits of all names, (images, names).
        words: logits of the words, (images, words).
        told: names of the objects in each image, (images, names); all others are negatives.
        means: synonyms of each image's subject, (images, words); an image without any does not count.
    """
    others = names.masked_fill(told, -torch.inf).logsumexp(1, keepdim=True)
    losses = (F.softplus(others - words) * means).sum(1) / means.sum(1).clamp(min=1)
    return losses.sum() / means.any(1).sum().clamp(min=1)


def presence_loss(logits: Tensor, there: Tensor, absent: Tensor, hardest: int = 32) -> Tensor:
    """Present texts above zero, absent ones below (Zhai et al. 2023, "Sigmoid loss for language image pre-training").

    Both sides have the same weight in each image; of the absent texts, the hardest count.

    Args:
        logits: (images, texts), relative to the canonical phrases.
        there: present texts, (images, texts); images without any do not count.
        absent: absent texts, (images, texts); texts in neither are ignored.
        hardest: number of absent texts that count.
    """
    hits = (F.softplus(-logits) * there).sum(1) / there.sum(1).clamp(min=1)
    alarms = F.softplus(logits).masked_fill(~absent, 0.0).topk(min(hardest, logits.shape[1]), dim=1).values.sum(1)
    alarms = alarms / absent.sum(1).clamp(1, hardest)
    return ((hits + alarms) * there.any(1)).sum() / there.any(1).sum().clamp(min=1)


def sharing_loss(logits: Tensor, shown: Tensor, even: float) -> Tensor:
    """Each cell says one of the names that its image shows, and each of these is said by some cells.

    What a cell should say is what it says among the shown names, squared so that it becomes sure of it (Xie et al.
    2016, "Unsupervised deep embedding for clustering analysis"), after the names have got their shares of the image:
    a mean of what they have by themselves and of equal ones (Sinkhorn's iterations, as in Asano et al. 2020,
    "Self-labelling via simultaneous clustering and representation learning").

    Args:
        logits: (views, cells, names).
        shown: (views, names).
        even: weight of equal shares, 0 to 1.
    """
    said = logits.log_softmax(-1)
    with torch.no_grad():
        among = said.masked_fill(~shown[:, None], -torch.inf).softmax(-1).nan_to_num()
        target = among.square() + 1e-6 * shown[:, None]
        target = target / target.sum(-1, keepdim=True).clamp(min=1e-9)
        equal = shown / shown.sum(1, keepdim=True).clamp(min=1)
        shares = even * equal + (1 - even) * among.mean(1)
        for _ in range(4):
            target = target * (shares / target.mean(1).clamp(min=1e-9))[:, None]
            target = target / target.sum(-1, keepdim=True).clamp(min=1e-9)
    losses = -(target * said).sum(-1).mean(1) * shown.any(1)
    return losses.sum() / shown.any(1).sum().clamp(min=1)
