"""Dense features of a CLIP whose picture tower is a convolutional network: its last map, finer than it was trained.

Such a tower ends in the average of a coarse map (a cell for 32 pixels) and a head. Each cell goes through that head as
if it were the whole picture. With the last strides taken out and the convolutions behind them dilated instead (Yu,
Koltun and Funkhouser 2017, "Dilated Residual Networks"), the same weights give a cell for every 16 pixels. timm builds
so whatever knows `output_stride`: ResNets, RegNets, EfficientNets, ConvNeXts. Frozen convolutional CLIPs keep meaning
in its place at sizes they were not trained for (Yu et al. 2023, FC-CLIP).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ovseg3d.errors import EncoderError

STRIDE = 16


class ConvolutionalTower:
    """The map of an open_clip model's timm tower, in the joint space; the face of `towers.Tower`.

    Args:
        visual: `model.visual` of open_clip, on its device; its weights are shared, nothing of it is changed.
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual = visual
        self.patch = STRIDE
        self._fine = _dilated(visual)
        self.dense = self._fine is not None and self._works()

    def tokens(self, pixels: Float[Tensor, "views 3 h w"], path: str) -> Float[Tensor, "views gh gw width"]:
        """Cells of the last map.

        Args:
            pixels: normalised, sides multiples of `patch`.
            path: "auto" or "plain"; the others are paths through attention.
        """
        if path not in ("auto", "plain"):
            raise EncoderError(f"The dense path {path!r} is one through attention", fix='use dense_path="plain"')
        return self._fine.forward_features(pixels).permute(0, 2, 3, 1)

    def project(self, tokens: Float[Tensor, "views gh gw width"]) -> Float[Tensor, "views gh gw dim"]:
        """Each cell through the model's head, as if it were the whole picture; not normalised."""
        flat = tokens.flatten(0, 2)
        return self.visual.head(self.visual.trunk.forward_head(flat[..., None, None])).unflatten(0, tokens.shape[:3])

    def replace(self, index: int, module: nn.Module) -> None:
        """Refused: there are no blocks of tokens. Raises EncoderError."""
        raise EncoderError("This model is not made of transformer blocks", fix="use a ViT")

    def double(self, index: int) -> nn.Module:
        """Refused: there are no blocks of tokens. Raises EncoderError."""
        raise EncoderError("This model is not made of transformer blocks", fix="use a ViT")

    def _works(self) -> bool:
        parameter = next(self.visual.parameters())
        pixels = torch.zeros(1, 3, 2 * STRIDE, 3 * STRIDE, device=parameter.device, dtype=parameter.dtype)
        try:
            with torch.no_grad():
                return self.project(self.tokens(pixels, "auto")).shape[:3] == (1, 2, 3)
        except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, IndexError):
            return False


def _dilated(visual: nn.Module) -> nn.Module | None:
    """timm's network with the same weights and finer strides; None where timm cannot build it, or it pools cleverly."""
    import timm

    trunk = visual.trunk
    pool = getattr(getattr(trunk, "global_pool", None), "pool_type", None) or _head_pool(trunk)
    if pool not in ("avg", "fast", "fastavg"):
        return None  # an attention over cells cannot be asked for one cell
    try:
        name = trunk.default_cfg["architecture"]
        fine = timm.create_model(name, num_classes=0, output_stride=STRIDE).requires_grad_(False).eval()
        fine.load_state_dict(trunk.state_dict(), assign=True)
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, AssertionError, NotImplementedError):
        return None
    return fine.eval()


def _head_pool(trunk: nn.Module) -> str | None:
    return getattr(getattr(getattr(trunk, "head", None), "global_pool", None), "pool_type", None)
