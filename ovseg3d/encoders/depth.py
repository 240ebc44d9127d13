"""Monocular depth through transformers, as a prior of completed depth (`--depth-prior ID` or `--depth-prior FOLDER`).

Any model of `AutoModelForDepthEstimation` fits, such as Depth Anything V2. Weights are optional and come from a folder
that `save_pretrained` wrote (model and image processor) or from the hub, under the same rules as other encoders.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ovseg3d.encoders import hub
from ovseg3d.encoders.pretrained import check_pretrained, find_pretrained
from ovseg3d.encoders.weights import wrong_checkpoint
from ovseg3d.errors import EncoderError

_METRIC_MODELS = ("depth_pro", "glpn", "prompt_depth_anything", "zoedepth")
"""Model types that predict depth. Others predict disparity, unless their configuration says `metric`."""
_LEAST_DEPTH = 1e-3
"""Depth below which a prediction counts as this, in the model's units."""


class DepthEstimator:
    """Predicts the disparity of a photo, up to a scale and an offset."""

    def __init__(self, folder: Path, name: str, device: torch.device | str = "cpu") -> None:
        from transformers import AutoImageProcessor, AutoModelForDepthEstimation

        weights, self.weight_hash = check_pretrained(
            folder, name, "save model and image processor there with transformers' save_pretrained"
        )
        self._processor: Any
        try:
            with hub.offline():
                self._processor = AutoImageProcessor.from_pretrained(str(folder), trust_remote_code=False)
                model = AutoModelForDepthEstimation.from_pretrained(str(folder), trust_remote_code=False)
        except Exception as error:
            raise wrong_checkpoint(error, name, weights) from error
        self._model = model.to(device).eval()
        self._metric = (
            model.config.model_type in _METRIC_MODELS or getattr(model.config, "depth_estimation_type", "") == "metric"
        )

    @torch.no_grad()
    def disparity(self, photo: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w"]:
        """Disparity of a photo at its size, up to a positive scale and an offset.

        Raises:
            EncoderError: the model predicts values that are no finite numbers.
        """
        inputs = self._processor(images=photo, return_tensors="pt").to(self._model.device)
        found = self._model(**inputs).predicted_depth.float()
        found = torch.nn.functional.interpolate(
            found.reshape(1, 1, *found.shape[-2:]), size=photo.shape[:2], mode="bicubic"
        )[0, 0]
        if self._metric:
            found = 1.0 / found.clamp_min(_LEAST_DEPTH)
        if not found.isfinite().all():
            raise EncoderError("The depth prior predicts values that are no finite numbers", fix="--depth-prior off")
        return found.cpu().numpy()


def load_depth_estimator(name: str, device: torch.device | str = "cpu") -> DepthEstimator:
    """A model by hub id or folder.

    Raises:
        EncoderError: it is not available, or estimates no depth.
    """
    folder, short = find_pretrained(
        name,
        flag="--depth-prior",
        example="/path/to/folder",
        fix="--depth-prior depth-anything/Depth-Anything-V2-Small-hf, --depth-prior FOLDER, or --depth-prior off",
    )
    return DepthEstimator(folder, short, device)
