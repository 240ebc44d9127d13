"""Losses of the tiny CLIP's image tower. They compare images, and the cells of their feature maps, with captions and
names.

Masks are (views, texts). A text that is `undecided` for an image is neither a positive nor a negative. Names are not
equally frequent. The trainer therefore adds a share of each name's log frequency to its logits, in training only (Menon
et al. 2021, "Long-tail learning via logit adjustment"). Without it, "a floor", which most images show, wins everywhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def best_patches(tokens: Tensor, phrases: Tensor, sharpness: float) -> Tensor:
    """Cosine of each phrase with its best patches, (views, phrases).

    Args:
        tokens: patch features, (views, patches, dim), unit length.
        phrases: text features, (phrases, dim), unit length.
        sharpness: inverse temperature of the softmax over the cosines that weights the patches.
    """
    cosines = torch.einsum("nkd,td->ntk", tokens, phrases)
    return ((cosines.detach() * sharpness).softmax(-1) * cosines).sum(-1)


def caption_loss(logits: Tensor, own: Tensor, undecided: Tensor) -> Tensor:
    """CLIP's symmetric loss with several captions per image and several images per caption.

    Each positive is compared with all negatives of its row or column, but not with the other positives.

    Args:
        logits: (views, texts).
        own: positives, (views, texts).
        undecided: ignored pairs, (views, texts).
    """
    return 0.5 * (_one_way(logits, own, undecided) + _one_way(logits.T, own.T, undecided.T))


def _one_way(logits: Tensor, own: Tensor, undecided: Tensor) -> Tensor:
    others = logits.masked_fill(own | undecided, -torch.inf).logsumexp(1, keepdim=True)
    losses = F.softplus(others - logits)
    return (losses * own).sum(1).div(own.sum(1).clamp(min=1)).mean()


def naming_loss(logits: Tensor, shown: Tensor, undecided: Tensor) -> Tensor:
    """Cross-entropy of each name that an image shows against all names that it does not show.

    The mean over an image's names, then over the images that show any.

    Args:
        logits: (views, names).
        shown: positives, (views, names).
        undecided: ignored names, (views, names).
    """
    others = logits.masked_fill(shown | undecided, -torch.inf).logsumexp(1, keepdim=True)
    losses = (F.softplus(others - logits) * shown).sum(1) / shown.sum(1).clamp(min=1)
    return losses.sum() / shown.any(1).sum().clamp(min=1)


def standing_loss(names: Tensor, words: Tensor, told: Tensor, means: Tensor) -> Tensor:
    """Cross-entropy of each synonym of an image's subject against the names that the captions do not mention.

    All synonyms of an image have the same weight.

    Args:
        names: logits of the names, (images, names).
        words: logits of the words, (images, words).
        told: names that the captions mention, (images, names); all others are negatives.
        means: synonyms of the subject, (images, words); images without any are ignored.
    """
    others = names.masked_fill(told, -torch.inf).logsumexp(1, keepdim=True)
    losses = (F.softplus(others - words) * means).sum(1) / means.sum(1).clamp(min=1)
    return losses.sum() / means.any(1).sum().clamp(min=1)


def presence_loss(logits: Tensor, there: Tensor, absent: Tensor, hardest: int = 32) -> Tensor:
    """Sigmoid loss: logits of present texts above zero, of absent texts below (Zhai et al. 2023, "Sigmoid loss for
    language image pre-training").

    Present and absent texts have the same weight in each image. Only the absent texts with the largest loss are used.

    Args:
        logits: (images, texts), relative to the canonical phrases.
        there: present texts, (images, texts); images without any are ignored.
        absent: absent texts, (images, texts); texts in neither mask are ignored.
        hardest: maximum number of absent texts used per image.
    """
    hits = (F.softplus(-logits) * there).sum(1) / there.sum(1).clamp(min=1)
    alarms = F.softplus(logits).masked_fill(~absent, 0.0).topk(min(hardest, logits.shape[1]), dim=1).values.sum(1)
    alarms = alarms / absent.sum(1).clamp(1, hardest)
    return ((hits + alarms) * there.any(1)).sum() / there.any(1).sum().clamp(min=1)


def sharing_loss(logits: Tensor, shown: Tensor, even: float) -> Tensor:
    """Self-labelling: each cell is assigned one of its image's names, and each name is assigned to some cells.

    The target of a cell is its own distribution over the shown names, squared to sharpen it (Xie et al. 2016,
    "Unsupervised deep embedding for clustering analysis"). Sinkhorn iterations (Asano et al. 2020, "Self-labelling via
    simultaneous clustering and representation learning") then bring each name to its share of the image: a weighted
    mean of its predicted share and of an equal share.

    Args:
        logits: (views, cells, names).
        shown: names that the image shows, (views, names).
        even: weight of the equal shares, 0 to 1.
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
