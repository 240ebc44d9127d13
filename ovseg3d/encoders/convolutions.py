"""Dense features of CLIP models with a convolutional image tower: its last map, at a finer stride than in training.

Such a tower ends in the average of a coarse map (a cell for 32 pixels) and a head. Each cell passes through that head
as if it were the whole image. With the last strides removed and the following convolutions dilated instead (Yu, Koltun
and Funkhouser 2017, "Dilated Residual Networks"), the same weights give a cell for every 16 pixels. timm supports this
for networks with `output_stride`: ResNets, RegNets, EfficientNets, ConvNeXts. Features of frozen convolutional CLIP
models stay local at sizes they were not trained for (Yu et al. 2023, FC-CLIP).

Strides and paddings shift features: the receptive field of a ResNet's cell is some pixels off its centre. The offset is
measured once by the gradient, and the image is shifted by it before it is encoded.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ovseg3d.errors import EncoderError

STRIDE = 16


class ConvolutionalTower:
    """The map of an open_clip model's timm tower, in the joint space; the interface of `towers.Tower`.

    Args:
        visual: `model.visual` of open_clip, on its device; its weights are shared and not changed.
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual: Any = visual  # towers of open_clip and timm have no declared interface
        self.patch, self.shift = STRIDE, (0, 0)
        self._fine = _dilated(visual)
        self.dense = self._fine is not None and self._works()
        self.shift = gaze(self._fine) if self._fine is not None and self.dense else (0, 0)

    def tokens(self, pixels: Float[Tensor, "views 3 h w"], path: str) -> Float[Tensor, "views gh gw width"]:
        """Cells of the last map.

        Args:
            pixels: normalised, sides multiples of `patch`.
            path: "auto" or "plain"; the others need attention.

        Raises:
            EncoderError: another path.
        """
        if path not in ("auto", "plain"):
            raise EncoderError(f"The dense path {path!r} is one through attention", fix='use dense_path="plain"')
        assert self._fine is not None, "asked for tokens without `dense`"
        return self._fine.forward_features(moved(pixels, *self.shift)).permute(0, 2, 3, 1)

    def project(self, tokens: Float[Tensor, "views gh gw width"]) -> Float[Tensor, "views gh gw dim"]:
        """Each cell through the model's head, as if it were the whole image; not normalised."""
        flat = tokens.flatten(0, 2)
        return self.visual.head(self.visual.trunk.forward_head(flat[..., None, None])).unflatten(0, tokens.shape[:3])

    def replace(self, index: int, module: nn.Module) -> None:
        """Not supported, since there are no blocks of tokens. Raises EncoderError."""
        raise EncoderError("This model is not made of transformer blocks", fix="use a ViT")

    def double(self, index: int) -> nn.Module:
        """Not supported, since there are no blocks of tokens. Raises EncoderError."""
        raise EncoderError("This model is not made of transformer blocks", fix="use a ViT")

    def _works(self) -> bool:
        parameter = next(self.visual.parameters())
        pixels = torch.zeros(1, 3, 2 * STRIDE, 3 * STRIDE, device=parameter.device, dtype=parameter.dtype)
        try:
            with torch.no_grad():
                return self.project(self.tokens(pixels, "auto")).shape[:3] == (1, 2, 3)
        except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, IndexError):
            return False


def gaze(trunk: Any, side: int = 9) -> tuple[int, int]:
    """Offset (down, right) of a cell's receptive field from its centre in pixels: the mean of its squared gradient.

    Args:
        trunk: timm's network with a cell for every `STRIDE` pixels.
        side: cells of the test images, which are coarse noise with a fixed seed.
    """
    parameter, middle = next(trunk.parameters()), side // 2
    random = torch.randn(4, 3, 2 * side, 2 * side, generator=torch.Generator().manual_seed(0))
    pixels = F.interpolate(random, scale_factor=STRIDE // 2, mode="bilinear").to(parameter).requires_grad_()
    with torch.enable_grad():
        seen = trunk.forward_features(pixels)[:, :, middle, middle].square().sum()
        weight = torch.autograd.grad(seen, pixels)[0].double().square().sum((0, 1))
    place = torch.arange(side * STRIDE, device=weight.device) + 0.5 - (middle + 0.5) * STRIDE
    total = weight.sum().clamp(min=1e-300)
    down, right = (round(float((weight.sum(axis) * place).sum() / total)) for axis in (1, 0))
    return down, right


def moved(pixels: Float[Tensor, "views 3 h w"], down: int, right: int) -> Float[Tensor, "views 3 h w"]:
    """Images shifted by so many pixels (up and left if negative), with replicated edges; the size does not change."""
    h, w = pixels.shape[-2:]
    frame = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    drawn = F.pad(pixels, frame, mode="replicate")
    return drawn[..., max(-down, 0) : max(-down, 0) + h, max(-right, 0) : max(-right, 0) + w]


def _dilated(visual: Any) -> Any:
    """timm's network with the same weights and finer strides; None if unsupported, or if it pools by attention."""
    import timm

    trunk = visual.trunk
    pool = getattr(getattr(trunk, "global_pool", None), "pool_type", None) or _head_pool(trunk)
    if pool not in ("avg", "fast", "fastavg"):
        return None  # attention pooling over cells does not apply to one cell
    try:
        name = trunk.default_cfg["architecture"]
        fine = timm.create_model(name, num_classes=0, output_stride=STRIDE).requires_grad_(False).eval()
        fine.load_state_dict(trunk.state_dict(), assign=True)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, AssertionError, NotImplementedError):
        return None
    return fine.eval()


def _head_pool(trunk: Any) -> str | None:
    return getattr(getattr(getattr(trunk, "head", None), "global_pool", None), "pool_type", None)
