"""Masks of SAM through transformers' mask generation, for regions (`--segments sam:ID` or `sam:FOLDER`).

Weights are optional and come from a folder that `save_pretrained` wrote (model and image processor) or from the hub,
under the same rules as other encoders: local files are used, and the hub's answer is awaited for seconds only.

SAM always resizes a photo's longer side to `SIDE`, so photos are resized before and masks are no larger. Few points are
processed at once, because each needs three images of logits.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from PIL import Image

from ovseg3d.encoders import hub
from ovseg3d.encoders.pretrained import check_pretrained, find_pretrained
from ovseg3d.encoders.weights import wrong_checkpoint

POINTS = 16
"""Prompt points along a photo's side."""
SIDE = 1024
"""Longest side of SAM's input, pixels."""
_AT_ONCE = 16
"""Points per batch."""


class Sam:
    """A `segments.Segmenter`."""

    def __init__(self, folder: Path, name: str, device: torch.device | str = "cpu", points: int = POINTS) -> None:
        from transformers import pipeline
        from transformers.utils import logging

        weights, self.weight_hash = check_pretrained(
            folder, name, "save model and processor there with transformers' save_pretrained, or use --segments dino"
        )
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            with hub.offline():
                self._pipeline = pipeline(
                    "mask-generation", model=str(folder), device=torch.device(device), trust_remote_code=False
                )
        except Exception as error:
            raise wrong_checkpoint(error, name, weights) from error
        finally:
            if bars:
                logging.enable_progress_bar()
        self.id = f"sam:{points}"
        self.places = (folder, hub.reference(folder)) if hub.in_cache(folder) else (folder,)
        self._points = points

    def masks(self, photo: UInt8[np.ndarray, "h w 3"]) -> Iterator[Bool[np.ndarray, "rows columns"]]:
        """Masks, which may overlap and leave pixels uncovered, of the photo's size or smaller (`SIDE`)."""
        image = Image.fromarray(photo)
        if max(image.size) > SIDE:
            size = [max(1, round(side * SIDE / max(image.size))) for side in image.size]
            image = image.resize(size, Image.Resampling.BOX)
        try:
            found = self._pipeline(image, points_per_batch=_AT_ONCE, points_per_crop=self._points)["masks"]
        except (IndexError, RuntimeError) as error:
            # transformers fails if no mask is good enough; other errors are bugs.
            if "empty" not in str(error) and not isinstance(error, IndexError):
                raise
            found = []
        for mask in found:
            yield np.asarray(mask, dtype=bool)


def load_sam(name: str, device: torch.device | str = "cpu") -> Sam:
    """SAM by hub id or folder.

    Raises:
        EncoderError: it is not available, or not a SAM.
    """
    folder, short = find_pretrained(
        name,
        flag="--segments",
        example="sam:/path/to/folder",
        fix="--segments sam:facebook/sam-vit-base, or sam:FOLDER",
    )
    return Sam(folder, short, device)
