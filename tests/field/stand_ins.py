"""Stand-ins for tinycudann and for nerfacc's compiled kernels, which need a GPU even to be imported or built.

They follow the conventions of the libraries, not ours: tinycudann's networks take flat parameters, one
layer after another as [outputs, inputs], padded to 16, with ones fed to the padded inputs; nerfacc's grids are bools
[level, x, y, z] with a box each, of which the first that holds a point counts.
"""

import importlib.util
import sys
import types

import pytest
import torch

from ovseg3d.field.levels import GridLevels
from ovseg3d.field.optimizer import scale_gradient
from ovseg3d.field.reference.encode import encode

# -- tinycudann ------------------------------------------------------------------------------------------------


class Encoding(torch.nn.Module):
    """A grid that is built from tinycudann's configuration."""

    def __init__(self, n_input_dims: int, encoding_config: dict, seed: int = 1337, dtype=None) -> None:
        super().__init__()
        config = encoding_config
        assert (n_input_dims, config["otype"], dtype) == (3, "HashGrid", torch.float32)
        finest = config["base_resolution"] * config["per_level_scale"] ** (config["n_levels"] - 1)
        self.levels = GridLevels.build(
            config["n_levels"],
            config["n_features_per_level"],
            config["log2_hashmap_size"],
            config["base_resolution"],
            round(finest),
        )
        self.params = torch.nn.Parameter(torch.zeros(self.levels.entries * self.levels.features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return encode(x, self.params.view(-1, self.levels.features), self.levels)


class Network(torch.nn.Module):
    """A fully fused network: its layout, its padding, its precision, its rounding of gradients."""

    dtype = torch.float16

    def __init__(self, n_input_dims: int, n_output_dims: int, network_config: dict, seed: int = 1337) -> None:
        super().__init__()
        config = network_config
        assert (config["otype"], config["activation"], config["output_activation"]) == ("FullyFusedMLP", "ReLU", "None")
        inputs, outputs = (-(-n // 16) * 16 for n in (n_input_dims, n_output_dims))
        hidden = [config["n_neurons"]] * config["n_hidden_layers"]
        self.shapes = list(zip([*hidden, outputs], [inputs, *hidden]))
        self.n_input_dims, self.n_output_dims = n_input_dims, n_output_dims
        self.params = torch.nn.Parameter(torch.rand(sum(rows * columns for rows, columns in self.shapes)))
        self.loss_scale = 128.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert len(x) and x.shape[1] == self.n_input_dims
        params = self.params.to(self.dtype)
        if x.requires_grad:
            x = scale_gradient(x, torch.tensor(1.0 / self.loss_scale))
        if params.requires_grad:
            params = scale_gradient(params, torch.tensor(1.0 / self.loss_scale))
        missing = self.shapes[0][1] - self.n_input_dims
        h = torch.nn.functional.pad(x, (0, missing), value=1.0).to(self.dtype)
        pieces = params.split([rows * columns for rows, columns in self.shapes])
        for number, (piece, shape) in enumerate(zip(pieces, self.shapes)):
            h = (torch.relu(h) if number else h) @ piece.view(shape).t()
        return scale_gradient(h, torch.tensor(self.loss_scale))[:, : self.n_output_dims]


class ExactNetwork(Network):
    """The same in single precision, to compare exactly."""

    dtype = torch.float32


def tinycudann(**replaced) -> types.SimpleNamespace:
    return types.SimpleNamespace(**{"Encoding": Encoding, "Network": ExactNetwork, **replaced})


# -- nerfacc ---------------------------------------------------------------------------------------------------


class Segments:
    """nerfacc's RaySegmentsSpec: packed values, and what its Python layer reads."""

    is_left = is_right = is_valid = None

    def __init__(self, vals: torch.Tensor, ray_indices: torch.Tensor, rays: int) -> None:
        self.vals, self.ray_indices = vals, ray_indices
        self.chunk_cnts = torch.bincount(ray_indices, minlength=rays)
        self.chunk_starts = self.chunk_cnts.cumsum(0) - self.chunk_cnts


class Kernels:
    """The compiled part of `nerfacc.cuda`."""

    @staticmethod
    def ray_aabb_intersect(rays_o, rays_d, aabbs, near_plane, far_plane, miss_value):
        a, b = ((side - rays_o[:, None]) / rays_d[:, None] for side in aabbs.split(3, -1))
        enter, leave = torch.minimum(a, b).amax(-1), torch.maximum(a, b).amin(-1)
        hits = (leave > enter) & (leave > 0)
        enter, leave = (torch.where(hits, t.clamp(near_plane, far_plane), miss_value) for t in (enter, leave))
        return enter, leave, hits

    @staticmethod
    def traverse_grids(
        rays_o, rays_d, rays_mask, binaries, aabbs, t_sorted, t_indices, hits, near_planes, far_planes,
        step_size, cone_angle, compute_intervals, compute_samples, compute_terminate_planes, steps_limit, over_allocate,
    ):  # fmt: skip
        assert (
            len(rays_o)
            and binaries.dtype == torch.bool
            and binaries.is_contiguous()
            and rays_mask.all()
            and steps_limit <= 0
        )
        assert all(t.dtype == torch.float32 for t in (rays_o, rays_d, aabbs, near_planes, far_planes))
        rays = torch.arange(len(rays_o))
        enter, leave = t_sorted.amin(-1), t_sorted.where(t_sorted.isfinite(), -torch.inf).amax(-1)
        last = torch.minimum(leave, far_planes)
        low, high = aabbs.split(3, -1)
        cells = torch.tensor(binaries.shape[1:])
        t, found = near_planes.clone(), []
        while True:
            step = (t * cone_angle).clamp(step_size, 1e10)
            middle = t + 0.5 * step
            alive = middle < last
            if not alive.any():
                break
            p = rays_o + rays_d * middle[:, None]
            within = ((p[:, None] >= low) & (p[:, None] < high)).all(-1)
            level = within.int().argmax(-1)  # the first of those that hold the point
            size = (high - low)[level] / cells
            index = ((p - low[level]) / size).floor().long()
            held = within.any(-1)
            x, y, z = torch.where(held[:, None], index, 0).unbind(-1)
            hit = binaries[level, x, y, z] & held & alive
            found.append((rays[hit], t[hit], (t + step)[hit]))
            wall = low[level] + (index + (rays_d > 0)) * size
            out = ((wall - rays_o) / rays_d).amin(-1)
            goal = torch.where(middle < enter, enter, torch.where(held, out, middle))
            skip = ((goal - middle) / step).ceil().clamp_min(1.0)
            t = t + step * torch.where(hit | ~alive, 1.0, skip)
        ray, left, right = (torch.cat(column) for column in zip(*found)) if found else (rays[:0], t[:0], t[:0])
        order = torch.argsort(ray, stable=True)
        ray, left, right = ray[order], left[order], right[order]
        # Intervals that touch share an edge, which is then the right one of the first and the left one of the second.
        alone = torch.ones_like(ray, dtype=torch.bool)
        alone[1:] = (ray[1:] != ray[:-1]) | (left[1:] != right[:-1])
        rights = torch.cumsum(1 + alone.long(), 0) - 1
        count = int(rights[-1]) + 1 if len(rights) else 0
        vals, owner = torch.zeros(count), torch.zeros(count, dtype=torch.long)
        for at, value in ((rights - 1, left), (rights, right)):
            vals[at], owner[at] = value, ray
        intervals = Segments(vals, owner, len(rays))
        intervals.is_left, intervals.is_right = (torch.zeros(count, dtype=torch.bool) for _ in range(2))
        intervals.is_left[rights - 1], intervals.is_right[rights] = True, True
        return intervals, Segments(0.5 * (left + right), ray, len(rays)), t


def _traverse_grids(rays_o, rays_d, binaries, aabbs, near_planes, far_planes, step_size, cone_angle):
    """A short version of nerfacc's Python layer, used if nerfacc is not installed."""
    enter, leave, hits = Kernels.ray_aabb_intersect(rays_o, rays_d, aabbs, -torch.inf, torch.inf, torch.inf)
    t_sorted, t_indices = torch.sort(torch.cat([enter, leave], -1), -1)
    made = Kernels.traverse_grids(
        rays_o, rays_d, torch.ones(len(rays_o), dtype=torch.bool), binaries.contiguous(), aabbs, t_sorted, t_indices,
        hits, near_planes, far_planes, step_size, cone_angle, True, True, True, -1, False,
    )  # fmt: skip
    for segments in made[:2]:
        segments.packed_info = torch.stack([segments.chunk_starts, segments.chunk_cnts], -1)
    return made


def _ray_aabb_intersect(rays_o, rays_d, aabbs):
    return Kernels.ray_aabb_intersect(rays_o, rays_d, aabbs, -torch.inf, torch.inf, torch.inf)


_ABSENT = pytest.mark.skipif(not importlib.util.find_spec("nerfacc"), reason="nerfacc is not installed")
NERFACC = ["stand-in", pytest.param("installed", marks=_ABSENT)]
"""A stand-in for all of nerfacc, and nerfacc's own Python over a stand-in for its kernels."""


def put_in_place(monkeypatch: pytest.MonkeyPatch, nerfacc: str = "stand-in", **replaced) -> None:
    """Let `import tinycudann` and `import nerfacc` find the stand-ins."""
    monkeypatch.setitem(sys.modules, "tinycudann", tinycudann(**replaced))
    if nerfacc == "installed":
        monkeypatch.setitem(sys.modules, "nerfacc.cuda._backend", types.SimpleNamespace(_C=Kernels))
        return
    made = types.SimpleNamespace(traverse_grids=_traverse_grids, ray_aabb_intersect=_ray_aabb_intersect)
    monkeypatch.setitem(sys.modules, "nerfacc", made)
