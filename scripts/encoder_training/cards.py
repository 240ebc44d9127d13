"""The model cards, card.json beside the weights: data, recipe, figures, calibration, limits.

Calibration: relevancy of a phrase is its least softmax against each canonical phrase (at the model's own logit scale);
Platt's two numbers turn its logit into the probability that the picture shows the thing. They are fitted on pictures of
a seed of their own, of the seen split, half of the questions about what is there and half about what is not.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from encoder_training.judges import Clip
from encoder_training.measures import object_views, phrase

LIMITS = (
    "Trained on ray-traced rooms of this package alone, for its demo and its tests: of photographs it knows nothing.",
    "Its figures compare with its own baselines only, never with published ones of other encoders.",
)
BESIDE = ("item", "surface")
"""What phrases are compared with here and wherever the encoder is asked: training sets LERF's four between what a
picture shows and what it does not, too close to the former for what is blurred over the points of a field."""
OF_TEXT = ("English phrases of up to about twenty words; other alphabets are unknown to it.",)


def logits(image: Tensor, asked: Tensor, canonical: Tensor, scale: float) -> Tensor:
    """Logit of the relevancy, (pairs,): how far the phrase is above the nearest canonical one."""
    return scale * ((image * asked).sum(-1) - (image @ canonical.T).max(-1).values)


def calibrate(clip: Clip, count: int = 600, seed: int = 9101) -> dict[str, Any]:
    """Platt's slope and offset, and how good they are on pictures that they were not fitted to."""
    from ovseg3d.synth.examples import KINDS

    views = object_views(seed, count, "seen", clip.side)
    images, text = clip.image(views.images), clip.text([phrase(k) for k in KINDS])
    canonical, random = clip.text(list(BESIDE)), np.random.default_rng(0)
    own = torch.tensor([KINDS.index(k) for k in views.kinds])
    other = (own + torch.from_numpy(random.integers(1, len(KINDS), count))) % len(KINDS)
    x = torch.cat([logits(images, text[rows], canonical, clip.scale) for rows in (own, other)])
    y = torch.cat([torch.ones(count), torch.zeros(count)])
    fit = (torch.arange(2 * count) % count) < count // 2
    numbers = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([numbers], max_iter=100, line_search_fn="strong_wolfe")

    def close() -> Tensor:
        optimiser.zero_grad()
        loss = F.binary_cross_entropy_with_logits(numbers[0] * x[fit].double() + numbers[1], y[fit].double())
        loss = loss + 1e-6 * numbers.square().sum()
        loss.backward()
        return loss

    optimiser.step(close)
    slope, offset = numbers.detach().tolist()
    sure = torch.sigmoid(slope * x[~fit] + offset)
    bins = (sure * 10).long().clamp(max=9)
    gaps = [
        float((bins == b).float().mean() * (sure[bins == b].mean() - y[~fit][bins == b].mean()).abs())
        for b in range(10)
        if (bins == b).any()
    ]
    return {
        "of": "picture", "canonical": list(BESIDE), "score": "scale * (cosine - greatest canonical cosine)",
        "logit_scale": clip.scale, "slope": slope, "offset": offset, "brier": float((sure - y[~fit]).square().mean()),
        "expected_calibration_error": sum(gaps), "pictures": count, "seed": seed,
    }  # fmt: skip


def write_cards(clip: Path, dino: Path, found: dict[str, Any]) -> None:
    """card.json of each encoder that rows were measured of; recipes as trainings left them."""
    from ovseg3d.files import write_json

    rows = {row["key"]: {"figures": row["figures"], "baselines": row["baselines"]} for row in found["rows"]}
    of_clip, of_dino = ({k: v for k, v in rows.items() if k[0] in keys} for keys in ("abcdf", "e"))
    data = {
        "pictures": "rendered by ovseg3d.synth.examples, split 'seen': things before backdrops, and parts of rooms",
        "never seen": "the styles, textures, lights, colours and pairs of ovseg3d/synth/holdout.py",
    }
    common = {"format_version": 1, "license": "Apache-2.0", "data": data, "limits": list(LIMITS)}
    text = {
        "sentences": "general household vocabulary in templates (scripts/encoder_training/words.py), no pictures",
        "teacher": "all-MiniLM-L6-v2 (Apache-2.0), for training only; the word table starts from its principal axes",
        "synonyms": "no caption holds one of the 30, so none was ever paired with a picture; most are everyday words "
        "and are among the distilled sentences (train_clip.py --without-synonyms leaves them out there too)",
    }
    if of_clip:
        card = {"name": "builtin", "role": "text-image encoder", **common, "text": text, "dense_path": "plain"}
        card["limits"] = [*LIMITS, *OF_TEXT]
        card |= {"recipe": _recipe(clip), "calibration": found.get("calibration"), "confused": found.get("confused")}
        write_json(clip / "card.json", {**card, "figures": of_clip})
    if of_dino:
        card = {"name": "builtin", "role": "self-supervised encoder", **common, "recipe": _recipe(dino)}
        write_json(dino / "card.json", {**card, "figures": of_dino})


def _recipe(folder: Path) -> Any:
    """What the training wrote beside its weights."""
    path = folder / "recipe.json"
    return json.loads(path.read_text()) if path.is_file() else None
