"""Patch tokens of CLIP image towers, for images of any size, and their projection to the joint space.

CLIP is trained on one vector per image. If a class token is pooled, the last block's output at patches is untrained:
each patch attends to the whole image, and local information is lost. So the last block is evaluated on another path
(`DensePath`); all other blocks are unchanged:

- "plain": unchanged. Suits models that pool the patches (SigLIP's attention head, averages), whose patches are trained.
- "maskclip": its attention passes every token's own value (Zhou et al. 2022, MaskCLIP); residual and MLP stay.
- "sclip": attention from queries to queries plus keys to keys, each softmaxed (Wang et al. 2024, SCLIP).
- "clearclip": attention from queries to queries, without residual and MLP (Lan et al. 2024, ClearCLIP). The residual
  holds global information; without it boundaries are sharper and fewer patches match every phrase. In its authors'
  tables it is the best of the four on plain ViTs.

"auto" is "clearclip" if a class token is pooled, else "plain". Then each token passes through the model's head as if it
were the whole image: last norm, pooling (over this token only: the value path of an attention pool), projection.
Position embeddings are interpolated (bicubic, antialiased), rotary ones are recomputed. See `convolutions` for
convolutional towers.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ovseg3d.encoders.convolutions import ConvolutionalTower
from ovseg3d.errors import EncoderError

DensePath = Literal["auto", "plain", "maskclip", "sclip", "clearclip"]
DENSE_PATHS: tuple[str, ...] = get_args(DensePath)


def tower_of(visual: nn.Module) -> "Tower | ConvolutionalTower":
    """The tower of open_clip's `model.visual`."""
    tower = Tower(visual)
    convolutional = tower.blocks is None and hasattr(visual, "trunk")
    return ConvolutionalTower(visual) if convolutional else tower


class Tower:
    """The image tower of an open_clip model: its blocks, and its patches in the joint space.

    Args:
        visual: `model.visual` of open_clip. Timm's towers are switched to inputs of any size in place, which changes
            nothing at the native size.
    """

    def __init__(self, visual: nn.Module) -> None:
        self.visual: Any = visual  # towers of open_clip and timm have no declared interface
        self._timm = hasattr(visual, "trunk")
        root = self.visual.trunk if self._timm else getattr(visual, "transformer", None)
        blocks = getattr(root, "blocks" if self._timm else "resblocks", None)
        self.blocks: nn.ModuleList | nn.Sequential | None = (
            blocks if isinstance(blocks, nn.ModuleList | nn.Sequential) else None
        )
        self.patch = self._patch() if self.blocks is not None else 0
        # A test with 2 x 3 patches needs no list of supported architectures.
        self.dense = bool(self.patch) and self._any_size() and self._works()

    @property
    def pooled_from_class_token(self) -> bool:
        """Whether an image's vector is pooled from a class token, not from the patches."""
        if self._timm:
            trunk = self.visual.trunk
            return getattr(trunk, "attn_pool", None) is None and getattr(trunk, "global_pool", "") == "token"
        return self.visual.attn_pool is None and self.visual.pool_type == "tok"

    def replace(self, index: int, module: nn.Module) -> None:
        """Replace a block by `module`."""
        blocks, index = self._block(index)
        blocks[index] = module

    def double(self, index: int) -> nn.Module:
        """Add a copy in parallel to a block, with averaged outputs; returns the copy."""
        blocks, index = self._block(index)
        doubled = Doubled(blocks[index])
        blocks[index] = doubled
        return doubled.copy

    def tokens(self, pixels: Float[Tensor, "views 3 h w"], path: str) -> Float[Tensor, "views gh gw width"]:
        """Patch tokens after the last block.

        Args:
            pixels: normalised, sides multiples of `patch`.
            path: one of DENSE_PATHS.

        Raises:
            EncoderError: the output is not a grid of tokens, or the last block has no attention for `path`.
        """
        if path == "auto":
            path = "clearclip" if self.pooled_from_class_token else "plain"
        assert self.blocks is not None, "asked for tokens without `dense`"
        with _last_block(self.blocks[-1], path) as seen:
            self._run(pixels)
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        tokens = seen.result(path)
        prefix = tokens.shape[1] - rows * columns
        if prefix < 0:
            raise EncoderError("This model has no grid of patch tokens", fix="use --features regions or pyramid")
        return tokens[:, prefix:].unflatten(1, (rows, columns))

    def project(self, tokens: Float[Tensor, "views gh gw width"]) -> Float[Tensor, "views gh gw dim"]:
        """Each token through the model's head, as if it were the whole image; not normalised."""
        flat = tokens.flatten(0, 2)
        if self._timm:
            trunk = self.visual.trunk
            # Pooling may skip a class or register token, so the token is repeated for those.
            copies = 1 + getattr(trunk, "num_prefix_tokens", 0)
            joint = self.visual.head(trunk.forward_head(trunk.norm(flat[:, None].expand(-1, copies, -1))))
        else:
            joint = self._open_clip_head(flat)
        return joint.unflatten(0, tokens.shape[:3])

    def _open_clip_head(self, flat: Tensor) -> Tensor:
        visual = self.visual
        if visual.attn_pool is not None:
            # CoCa: attention over one token is that token's value, whatever the query.
            pool = visual.attn_pool
            query = pool.ln_q(pool.query[:1]).expand(len(flat), 1, -1)
            key = pool.ln_k(flat)[:, None]
            flat = pool.attn(query, key, key, need_weights=False)[0][:, 0]
        flat = visual.ln_post(flat)
        return flat if visual.proj is None else flat @ visual.proj

    def _run(self, pixels: Tensor) -> None:
        """Run embedding and blocks; the output is captured at the last block."""
        visual = self.visual
        if self._timm:
            visual.trunk.forward_features(pixels)
            return
        patches = visual.conv1(pixels)
        grid = patches.shape[-2:]
        patches = patches.flatten(2).transpose(1, 2)
        first = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        positions = resample(visual.positional_embedding, tuple(visual.grid_size), tuple(grid))
        x = torch.cat([first, patches], dim=1) + positions.to(patches.dtype)
        visual.transformer(visual.ln_pre(x))

    def _patch(self) -> int:
        if self._timm:
            embed = getattr(self.visual.trunk, "patch_embed", None)
            known = getattr(embed, "feat_ratio", None)
            ratio = known() if known is not None else getattr(embed, "patch_size", 0)
        else:
            ratio = getattr(self.visual, "patch_size", 0)
        sides = (ratio, ratio) if isinstance(ratio, int) else tuple(ratio)
        return int(sides[0]) if sides[0] == sides[1] else 0

    def _any_size(self) -> bool:
        """Make timm's tower accept any size; False if it cannot."""
        if not self._timm:
            # CoCa's two-headed poolings are unfinished in open_clip itself.
            return getattr(self.visual, "attn_pool_contrastive", None) is None
        trunk = self.visual.trunk
        if not hasattr(trunk, "dynamic_img_size") or not hasattr(trunk.patch_embed, "strict_img_size"):
            return False
        from timm.layers.format import Format

        trunk.dynamic_img_size = True
        trunk.patch_embed.strict_img_size = False
        trunk.patch_embed.flatten = False
        trunk.patch_embed.output_fmt = Format.NHWC
        rotary = getattr(trunk, "rope", None)
        if rotary is not None:
            if not hasattr(rotary, "_use_cached_embed"):
                return False
            rotary._use_cached_embed = False
        return True

    def _works(self) -> bool:
        parameter = next(self.visual.parameters())
        pixels = torch.zeros(1, 3, 2 * self.patch, 3 * self.patch, device=parameter.device, dtype=parameter.dtype)
        try:
            with torch.no_grad():
                return self.project(self.tokens(pixels, "auto")).shape[:3] == (1, 2, 3)
        except (RuntimeError, AssertionError, ValueError, TypeError, AttributeError, EncoderError):
            return False

    def _block(self, index: int) -> tuple[nn.ModuleList | nn.Sequential, int]:
        """All blocks, and the index of one of them, from the first."""
        if self.blocks is None:
            raise EncoderError("This model is not made of transformer blocks", fix="use a ViT")
        if not -len(self.blocks) <= index < len(self.blocks):
            raise EncoderError(f"There is no block {index}: the model has {len(self.blocks)}")
        return self.blocks, index % len(self.blocks)


class Doubled(nn.Module):
    """A block and a copy of it in parallel, with averaged outputs (OpenDlign; Mao et al. 2024).

    Initially it computes the same as the block. The copy may be trained; the block is frozen.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.copy = deepcopy(block)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return 0.5 * (self.block(*args, **kwargs) + self.copy(*args, **kwargs))


def resample(
    positions: Float[Tensor, "places width"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "others width"]:
    """Position embeddings of a grid, resized to another grid; embeddings before the grid (a class token) are kept."""
    if old == new:
        return positions
    prefix = positions.shape[0] - old[0] * old[1]
    grid = positions[prefix:].float().unflatten(0, old).permute(2, 0, 1)[None]
    grid = F.interpolate(grid, size=new, mode="bicubic", antialias=True)
    return torch.cat([positions[:prefix].float(), grid[0].flatten(1).T])


@dataclass
class _Seen:
    """Observations of the last block's execution."""

    output: Tensor | None = None
    branches: list[Tensor] = field(default_factory=list)
    attended: bool = False
    """Whether an attention took the other path."""

    def result(self, path: str) -> Tensor:
        """Tokens after the block. Raises EncoderError: it has no attention that could take `path`."""
        assert self.output is not None, "the block has not run"
        if path == "plain":
            return self.output
        # Attention without the fused function (some of timm's) is not observed, and would be unchanged.
        if not self.attended or (path == "clearclip" and not self.branches):
            raise EncoderError("The last block has no fused attention", fix='use dense_path="plain"')
        return torch.stack(self.branches).mean(0) if path == "clearclip" else self.output


@contextmanager
def _last_block(block: nn.Module, path: str) -> Generator[_Seen, None, None]:
    """Observe a block, and let its attention take `path`, inside the block of `with`."""
    seen = _Seen()
    mode = _Attention(path, seen)

    def enter(module: nn.Module, args: tuple) -> None:
        mode.__enter__()

    def leave(module: nn.Module, args: tuple, output: object) -> None:
        mode.__exit__(None, None, None)

    handles = [block.register_forward_hook(lambda module, args, output: setattr(seen, "output", output))]
    multihead = [module for module in block.modules() if isinstance(module, nn.MultiheadAttention)]
    if path != "plain":
        handles += [module.register_forward_hook(_multihead(path, seen), with_kwargs=True) for module in multihead]
        if not multihead:
            handles.append(block.register_forward_pre_hook(enter))
            handles.append(block.register_forward_hook(leave, always_call=True))
    if path == "clearclip":
        for branch, scale in _branches(block):
            handles.append(branch.register_forward_hook(_catch(seen, scale)))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _branches(block: nn.Module) -> Iterator[tuple[nn.Module, Tensor | None]]:
    """The modules whose output a block adds to its residual after its attention, with a factor if there is one."""
    module: Any
    for module in block.modules():
        if not hasattr(module, "attn"):
            continue
        if type(module).__name__ == "EvaBlockPostNorm":
            yield module.norm1, None
        elif hasattr(module, "ls_1") or hasattr(module, "ls1"):
            yield getattr(module, "ls_1", None) or module.ls1, None
        else:
            yield module.attn, getattr(module, "gamma_1", None)


def _catch(seen: _Seen, scale: Tensor | None) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        tokens = output[0] if isinstance(output, tuple) else output
        seen.branches.append(tokens if scale is None else scale * tokens)

    return hook


def attend(query: Tensor, key: Tensor, value: Tensor, path: str, **options: Any) -> Tensor:
    """Attention on another path.

    Args:
        query, key, value: [..., tokens, channels], as `scaled_dot_product_attention` takes them.
        path: one of DENSE_PATHS, other than "auto" and "plain".
        options: of that function.
    """
    if path == "maskclip":
        return value
    # Inside the mode's own handler, this is torch's function.
    attention = F.scaled_dot_product_attention
    if path == "clearclip":
        return attention(query, query, value, **options)
    return attention(query, query, value, **options) + attention(key, key, value, **options)


class _Attention(TorchFunctionMode):
    """While active, fused attention takes another path, in whatever module it is called (timm, open_clip)."""

    def __init__(self, path: str, seen: _Seen) -> None:
        super().__init__()
        self.path = path
        self.seen = seen

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
        given = {**dict(zip(names, args)), **kwargs}
        query, key, value = (given[name] for name in names[:3])
        self.seen.attended = True
        return attend(query, key, value, self.path, scale=given.get("scale"))


def _multihead(path: str, seen: _Seen) -> Callable[..., tuple[Tensor, None]]:
    """A hook for another path through torch's MultiheadAttention, which function modes do not reach."""

    def hook(module: nn.MultiheadAttention, args: tuple, kwargs: dict, output: object) -> tuple[Tensor, None]:
        seen.attended = True
        x = args[0] if args else kwargs["query"]
        x = x if module.batch_first else x.transpose(0, 1)
        joined = F.linear(x, module.in_proj_weight, module.in_proj_bias)
        heads = (part.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for part in joined.chunk(3, dim=-1))
        query, key, value = heads
        mixed = attend(query, key, value, path).transpose(1, 2).flatten(2)
        mixed = module.out_proj(mixed)
        return (mixed if module.batch_first else mixed.transpose(0, 1)), None

    return hook
