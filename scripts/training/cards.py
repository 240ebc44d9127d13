"""The model cards, card.json beside the weights: data, recipe, figures, limits.

Other entries of an existing card are kept: the history of the weights, and the calibration, which
`scripts.benchmarks.absence --card` fits to runs of scenes (see `calibration`).
"""

import json
from pathlib import Path
from typing import Any

LIMITS = (
    "Trained on ray-traced rooms of this package alone, for its demo and its tests: of photographs it knows nothing.",
    "Its figures compare with its own baselines only, never with published ones of other encoders.",
)
OF_TEXT = ("English phrases of up to about twenty words; other alphabets are unknown to it.",)


def write_cards(clip: Path, dino: Path, found: dict[str, Any]) -> None:
    """Write card.json of each measured encoder, with the recipe that its training left."""
    from ovseg3d.files import write_json

    rows = {row["key"]: {"figures": row["figures"], "baselines": row["baselines"]} for row in found["rows"]}
    of_clip, of_dino = ({k: v for k, v in rows.items() if k[0] in keys} for keys in ("abcdf", "e"))
    data = {
        "pictures": "rendered by ovseg3d.synth.examples, split 'seen': things before backdrops, and parts of rooms",
        "never seen": "the styles, textures, lights, colours and pairs of ovseg3d/synth/holdout.py",
    }
    common = {"format_version": 1, "license": "Apache-2.0", "data": data, "limits": list(LIMITS)}
    text = {
        "sentences": "general everyday vocabulary in templates (scripts/training/words.py), no pictures",
        "teacher": "all-MiniLM-L6-v2 (Apache-2.0), for training only; the word table starts from its principal axes",
        "synonyms": "no caption holds one of the 30, so none was ever paired with a picture; most are everyday words "
        "and are among the distilled sentences (train_clip.py --without-synonyms leaves them out there too)",
    }
    if of_clip:
        card = {"name": "builtin", "role": "text-image encoder", **common, "text": text, "dense_path": "plain"}
        card["limits"] = [*LIMITS, *OF_TEXT]
        earlier = _recipe(clip, "card.json") or {}
        card |= {"recipe": _recipe(clip), "confused": found.get("confused")}
        if "calibration" in earlier:
            card["calibration"] = earlier["calibration"]
        if "history" in earlier.get("data", {}):
            card["data"] = {**data, "history": earlier["data"]["history"]}
        write_json(clip / "card.json", {**card, "figures": of_clip})
    if of_dino:
        card = {"name": "builtin", "role": "self-supervised encoder", **common, "recipe": _recipe(dino)}
        write_json(dino / "card.json", {**card, "figures": of_dino})


def _recipe(folder: Path, name: str = "recipe.json") -> Any:
    """The recipe or an earlier card beside the weights; None: there is none."""
    path = folder / name
    return json.loads(path.read_text()) if path.is_file() else None
