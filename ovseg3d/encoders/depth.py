"""Monocular depth: as a prior of completed depth (`--depth-prior`), and to lift one photo (`detect --depth-model`).

`builtin` is the small network of `depth_network`. Any model of transformers' `AutoModelForDepthEstimation` fits as
well, such as Depth Anything V2; photos are lifted by models of metric depth only. Its weights come from a folder that
`save_pretrained` wrote (model and image processor) or from the hub, under the same rules as other encoders.
"""

from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

from ovseg3d.encoders import hub
from ovseg3d.encoders.depth_network import SHIPPED, DepthPredictions, load_network, predict_depth
from ovseg3d.encoders.pretrained import check_pretrained, find_pretrained
from ovseg3d.encoders.weights import hash_files, wrong_checkpoint
from ovseg3d.errors import EncoderError

_METRIC_MODELS = ("depth_pro", "glpn", "prompt_depth_anything", "zoedepth")
"""Model types that predict depth. Others predict disparity, unless their configuration says `metric`."""
_LEAST_DEPTH = 1e-3
"""Depth below which a prediction counts as this, in the model's units."""

BUILTIN = "builtin"
Intrinsics = tuple[float, float, float, float]
"""fx, fy, cx, cy in pixels of the photo."""


@runtime_checkable
class DepthEstimator(Protocol):
    """Predicts the depth of a photo."""

    weight_hash: str
    """Of all that determines the predictions."""

    def disparity(self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics) -> Float[np.ndarray, "h w"]:
        """Disparity of a photo at its size, up to a positive scale and an offset.

        Raises:
            EncoderError: the model predicts values that are no finite numbers.
        """
        ...

    def metric_depth(
        self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics
    ) -> tuple[Float[np.ndarray, "h w"], float | None]:
        """z-depth of a photo at its size in metres, 0 where there is none; and the focal length in pixels if the model
        estimates it.

        Raises:
            EncoderError: the model predicts relative depth only, or values that are no finite numbers.
        """
        ...


class BuiltinDepth:
    """The network that comes with the package."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)
        self._network = load_network().to(self._device)
        self.weight_hash = hash_files([SHIPPED])

    def predict(self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics) -> DepthPredictions:
        """What the network says of a photo, at half the size at which it sees the photo."""
        pixels = torch.from_numpy(np.ascontiguousarray(photo)).to(self._device)
        return predict_depth(self._network, pixels, intrinsics[:2], intrinsics[2:])

    def disparity(self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics) -> Float[np.ndarray, "h w"]:
        """As `DepthEstimator` has it, in 1 / metres."""
        depth = self.predict(photo, intrinsics).log_depth
        return _resized((-depth).exp(), photo)

    def metric_depth(
        self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics
    ) -> tuple[Float[np.ndarray, "h w"], float | None]:
        """As `DepthEstimator` has it; it estimates no focal length."""
        return 1.0 / self.disparity(photo, intrinsics), None


def _resized(values: Float[torch.Tensor, "1 h w"], photo: np.ndarray) -> Float[np.ndarray, "rows columns"]:
    """A prediction at the photo's size."""
    return torch.nn.functional.interpolate(values[None], photo.shape[:2], mode="bilinear")[0, 0].cpu().numpy()


class TransformersDepth:
    """A model of transformers."""

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
        self._name = name
        self._model = model.to(device).eval()
        self._metric = (
            model.config.model_type in _METRIC_MODELS or getattr(model.config, "depth_estimation_type", "") == "metric"
        )

    @torch.no_grad()
    def disparity(self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics) -> Float[np.ndarray, "h w"]:
        """As `DepthEstimator` has it; the model takes no intrinsics.

        Raises:
            EncoderError: the model predicts values that are no finite numbers.
        """
        found, _ = self._predict(photo)
        if self._metric:
            found = 1.0 / found.clamp_min(_LEAST_DEPTH)
        if not found.isfinite().all():
            raise EncoderError("The depth prior predicts values that are no finite numbers", fix="--depth-prior off")
        return found.cpu().numpy()

    @torch.no_grad()
    def metric_depth(
        self, photo: UInt8[np.ndarray, "h w 3"], intrinsics: Intrinsics
    ) -> tuple[Float[np.ndarray, "h w"], float | None]:
        """As `DepthEstimator` has it; the model takes no intrinsics.

        Raises:
            EncoderError: the model predicts relative depth only, or values that are no finite numbers.
        """
        if not self._metric:
            raise EncoderError(
                f"{self._name} predicts depth without a scale, and boxes need metres",
                fix="--depth-model depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf, or another metric model",
            )
        found, focal = self._predict(photo)
        if not found.isfinite().all():
            raise EncoderError(f"{self._name} predicts values that are no finite numbers", fix="use another model")
        return torch.where(found > _LEAST_DEPTH, found, 0).cpu().numpy(), focal

    def _predict(self, photo: UInt8[np.ndarray, "h w 3"]) -> tuple[torch.Tensor, float | None]:
        """The model's depth or disparity at the photo's size, and the focal length in pixels if it estimates that."""
        inputs = self._processor(images=photo, return_tensors="pt").to(self._model.device)
        outputs = self._model(**inputs)
        kind, size = self._model.config.model_type, [photo.shape[:2]]
        if kind in ("zoedepth", "depth_pro"):  # predict a padded photo, and canonical inverse depth
            more = {"source_sizes": size} if kind == "zoedepth" else {}
            found = self._processor.post_process_depth_estimation(outputs, target_sizes=size, **more)[0]
            focal = found.get("focal_length")
            return found["predicted_depth"].float(), None if focal is None else float(focal)
        found = outputs.predicted_depth.float()
        found = found.reshape(1, 1, *found.shape[-2:])
        return torch.nn.functional.interpolate(found, size=photo.shape[:2], mode="bicubic")[0, 0], None


_PRIOR = "--depth-prior builtin, --depth-prior FOLDER, or --depth-prior off"
_METRIC = "--depth-model builtin, --depth-model FOLDER, or --depth FILE"


def load_depth_estimator(
    name: str, device: torch.device | str = "cpu", flag: Literal["--depth-prior", "--depth-model"] = "--depth-prior"
) -> DepthEstimator:
    """The built-in network, or a model of transformers by hub id or folder.

    Args:
        name: builtin, the id or the folder.
        device: where it runs.
        flag: the flag that names it, for errors.

    Raises:
        EncoderError: it is not available, or estimates no depth.
    """
    if name == BUILTIN:
        return BuiltinDepth(device)
    folder, short = find_pretrained(
        name,
        flag=flag,
        example="/path/to/folder",
        fix=_PRIOR if flag == "--depth-prior" else _METRIC,
    )
    return TransformersDepth(folder, short, device)
