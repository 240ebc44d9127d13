"""`--backend tcnn` against the torch reference, with stand-ins for its libraries, so that no GPU is needed."""

import sys
import types
from dataclasses import replace

import pytest
import stand_ins
import torch
from tiny import small_settings

from ovseg3d.errors import DeviceError
from ovseg3d.field.backends import make_backend
from ovseg3d.field.cell_bits import CellBits
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.levels import GridLevels
from ovseg3d.field.networks import perceptron
from ovseg3d.field.radiance import RadianceField
from ovseg3d.field.reference import TorchBackend
from ovseg3d.field.stage import FieldStage
from ovseg3d.field.tcnn.networks import from_tinycudann, to_tinycudann
from ovseg3d.scene import load_scene

CPU = torch.device("cpu")
LEVELS = GridLevels.build(5, 2, 10, 4, 64)
CONFIG = replace(FieldConfig(**small_settings()["field"]), samples=2048, max_rays=512)
SIZES = [(10, 16, 16), (32, 64, 1), (31, 64, 64, 3), (5, 32, 32, 32, 17)]


@pytest.fixture
def tcnn(monkeypatch):
    stand_ins.put_in_place(monkeypatch)
    return make_backend("tcnn", LEVELS, CPU)


@pytest.fixture(params=stand_ins.NERFACC)
def marcher(request, monkeypatch):
    """With nerfacc's own Python too, where it is installed."""
    stand_ins.put_in_place(monkeypatch, request.param)
    return make_backend("tcnn", LEVELS, CPU)


@pytest.fixture
def half(monkeypatch):
    """With networks in half precision, as the real ones are."""
    stand_ins.put_in_place(monkeypatch, Network=stand_ins.Network)
    return make_backend("tcnn", LEVELS, CPU)


def layers_of(sizes: tuple[int, ...], seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(a, b, generator=generator) * (2 / a) ** 0.5 for a, b in zip(sizes, sizes[1:])]


# -- the grid ----------------------------------------------------------------------------------------------------


def test_grid_agrees_with_the_reference(tcnn):
    reference = TorchBackend(LEVELS, CPU)
    x, table = torch.rand(40, 3) * 1.2 - 0.1, torch.randn(LEVELS.entries, LEVELS.features)
    grad = torch.randn(40, LEVELS.width)
    torch.testing.assert_close(tcnn.encode(x, table), reference.encode(x, table))
    torch.testing.assert_close(tcnn.position_gradient(x, table, grad), reference.position_gradient(x, table, grad))
    totals = [torch.zeros_like(table) for _ in range(2)]
    for backend, total in zip((tcnn, reference), totals):
        backend.add_table_gradient([(x, grad)], total)
    torch.testing.assert_close(*totals)


# -- the networks ------------------------------------------------------------------------------------------------


def test_layers_are_laid_out_as_outputs_by_padded_inputs():
    first, last = layers_of((3, 16, 2))
    flat = to_tinycudann([first, last])
    assert len(flat) == 16 * 16 + 16 * 16
    assert flat[5 * 16 + 2] == first[2, 5] and flat[256 + 1 * 16 + 9] == last[9, 1]
    # Three inputs and two outputs of sixteen are used; the others are padding.
    assert not flat[:256].view(16, 16)[:, 3:].any() and not flat[256 + 2 * 16 :].any()


@pytest.mark.parametrize("sizes", SIZES)
def test_layers_come_back_as_they_went(sizes):
    layers = layers_of(sizes)
    back = from_tinycudann(to_tinycudann(layers), [layer.shape for layer in layers])
    assert all(torch.equal(a, b) for a, b in zip(layers, back))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("wanted", ["input", "layers", "both"])
def test_networks_agree_with_ours(tcnn, sizes, wanted):
    x = torch.randn(37, sizes[0], generator=torch.Generator().manual_seed(1))
    mix = torch.randn(37, sizes[-1], generator=torch.Generator().manual_seed(2))
    results = []
    for run in (tcnn.perceptron, perceptron):
        leaf, layers = x.clone(), layers_of(sizes)
        leaves = {"input": [leaf], "layers": layers, "both": [leaf, *layers]}[wanted]
        for tensor in leaves:
            tensor.requires_grad_()
        out = run(leaf, *layers)
        results.append([out.detach(), *torch.autograd.grad((out * mix).sum(), leaves)])
    for fast, reference in zip(*results):
        torch.testing.assert_close(fast, reference, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("count", [1, 3000])
@pytest.mark.parametrize("size", [1e-12, 1e-6, 1.0, 1e6])
def test_gradients_of_any_size_pass_through_half_precision(half, size, count):
    sizes = (31, 64, 64, 3)
    x = 20 * torch.randn(count, sizes[0], generator=torch.Generator().manual_seed(1))
    # Of one sign, so that sums over the samples are as large as they can be.
    mix = torch.rand(count, sizes[-1], generator=torch.Generator().manual_seed(2)) * size
    found = []
    for run in (half.perceptron, perceptron):
        leaves = [x.clone().requires_grad_(), *(layer.requires_grad_() for layer in layers_of(sizes))]
        out = run(*leaves)
        assert out.dtype == torch.float32
        found.append([out.detach(), *torch.autograd.grad((out * mix).sum(), leaves)])
    for fast, reference in zip(*found):
        assert torch.isfinite(fast).all()
        assert (fast - reference).norm() < 0.04 * reference.norm()


def test_nothing_in_nothing_out(tcnn):
    layers = [layer.requires_grad_() for layer in layers_of((32, 64, 16))]
    out = tcnn.perceptron(torch.zeros(0, 32), *layers)
    assert out.shape == (0, 16) and not any(g.any() for g in torch.autograd.grad(out.sum(), layers))


def test_widths_that_cannot_be_fused_are_refused_before_training(tcnn):
    with pytest.raises(DeviceError, match="cannot fuse hidden layers of 48, 48 neurons"):
        RadianceField(replace(CONFIG, hidden=48), CPU, run=tcnn.perceptron)


def test_a_network_of_another_layout_is_refused(monkeypatch):
    class Other(stand_ins.Network):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            self.params = torch.nn.Parameter(torch.zeros(7))

    stand_ins.put_in_place(monkeypatch, Network=Other)
    with pytest.raises(DeviceError, match="has 7 parameters where"):
        make_backend("tcnn", LEVELS, CPU).perceptron(torch.zeros(1, 16), *layers_of((16, 16, 16)))


def test_tinycudann_built_without_networks_is_said_plainly(monkeypatch):
    def without(*_):
        raise RuntimeError("not compiled with neural network support")

    stand_ins.put_in_place(monkeypatch, Network=without)
    with pytest.raises(DeviceError, match="cannot make a network here"):
        make_backend("tcnn", LEVELS, CPU).perceptron(torch.zeros(1, 16), *layers_of((16, 16, 16)))


# -- the march ---------------------------------------------------------------------------------------------------


def rays(count: int, spread: float = 0.5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    origins = torch.randn(count, 3, generator=generator) * spread
    return origins, torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)


@pytest.mark.parametrize("cascades", [1, 3])
@pytest.mark.parametrize("cone", [0.0, 0.02])
def test_march_agrees_with_the_reference(marcher, cascades, cone):
    origins, directions = rays(200)
    cells = CellBits.pack(torch.rand(cascades, 8, 8, 8, generator=torch.Generator().manual_seed(5)) < 0.3)
    # Far from the camera the first step, which jitter is a share of, is longer than the smallest.
    spans = torch.stack([torch.linspace(0.05, 3.0, 200), torch.full((200,), 20.0)], -1)
    spans[3] = 0.0
    jitter = torch.rand(200, generator=torch.Generator().manual_seed(6))
    made = [
        backend.march(origins, directions, spans, jitter, cells, 0.03, cone, 100_000)
        for backend in (marcher, TorchBackend(LEVELS, CPU))
    ]
    keyed = []
    for samples in made:
        assert torch.equal(samples.offsets[samples.ray.long()] <= torch.arange(len(samples.t)), samples.t > 0)
        assert samples.offsets[-1] == len(samples.t) and samples.offsets.dtype == samples.cell.dtype == torch.int32
        keys = zip(samples.ray.tolist(), samples.t.mul(1e3).round().tolist())
        keyed.append(dict(zip(keys, zip(samples.step.tolist(), samples.cell.tolist()))))
        assert samples.offsets[3] == samples.offsets[4]
    common = keyed[0].keys() & keyed[1].keys()
    # A sample within rounding of a cell's border may fall on either side; nearly all must agree.
    assert len(common) > 300 and len(keyed[0].keys() ^ keyed[1].keys()) <= 0.02 * len(common)
    assert all(keyed[0][key][0] == pytest.approx(keyed[1][key][0], rel=1e-3) for key in common)
    assert sum(keyed[0][key][1] != keyed[1][key][1] for key in common) <= 0.01 * len(common)
    assert cascades == 1 or max(cell for _, cell in keyed[0].values()) >= 2 * 512


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_march_finds_the_one_occupied_cell(marcher, axis):
    """Half of an index along each axis: x 6, y 4, z 1 of 8; the cell is 0.25 wide."""
    occupied = torch.zeros(2, 8, 8, 8, dtype=torch.bool)
    occupied[0, 1, 4, 6] = True
    cells, spans = CellBits.pack(occupied), torch.tensor([[1.0, 5.0]])
    place = torch.tensor([0.5, 0.0, -0.75])
    origins, directions = (place + 0.1)[None].clone(), torch.zeros(1, 3)
    origins[0, axis], directions[0, axis] = -3.0, 1.0
    samples = marcher.march(origins, directions, spans, torch.zeros(1), cells, 0.01, 0.0, 999)
    along = samples.t - 3.0
    assert place[axis] <= along.min() < place[axis] + 0.011 and along.max() <= place[axis] + 0.25
    assert len(along) == 25 and samples.offsets.tolist() == [0, 25]
    torch.testing.assert_close(samples.step, torch.full((25,), 0.01), atol=1e-5, rtol=0)
    assert set(samples.cell.tolist()) == {(1 * 8 + 4) * 8 + 6}


def test_march_respects_its_capacity(marcher, monkeypatch):
    origins, directions = rays(32, spread=0.05)
    cells = CellBits.pack(torch.ones(1, 4, 4, 4, dtype=torch.bool))
    given = (
        origins,
        directions,
        torch.tensor([[0.0, 0.5]]).repeat(32, 1),
        torch.zeros(32),
        cells,
        0.05,
        0.0,
    )
    whole, cut = marcher.march(*given, 999), marcher.march(*given, 101)
    assert len(whole.t) == 320 and len(cut.t) == 101 and cut.offsets.tolist() == [*range(0, 101, 10), *[101] * 22]
    assert torch.equal(cut.t, whole.t[:101]) and torch.equal(cut.ray, whole.ray[:101])
    # On a GPU buffers keep their capacity, so that no step waits for a count.
    monkeypatch.setattr("ovseg3d.field.samples.padded", lambda device: True)
    spare = marcher.march(*given, 999)
    for name in ("t", "step", "ray", "cell"):
        values = getattr(spare, name)
        assert len(values) == 999 and torch.equal(values[:320], getattr(whole, name)) and not values[320:].any()
    assert torch.equal(spare.offsets, whole.offsets)


def test_march_of_no_rays(marcher):
    cells, none = CellBits.pack(torch.ones(1, 4, 4, 4, dtype=torch.bool)), torch.zeros(0, 3)
    samples = marcher.march(none, none, torch.zeros(0, 2), torch.zeros(0), cells, 0.05, 0.0, 100)
    assert len(samples.t) == 0 and samples.offsets.tolist() == [0]


# -- all of it ---------------------------------------------------------------------------------------------------


def test_training_agrees_and_checkpoints_move(monkeypatch, tiny_scene):
    stand_ins.put_in_place(monkeypatch)
    scene, stages = load_scene(tiny_scene), {}
    for name in ("tcnn", "torch"):
        stages[name] = stage = FieldStage(scene, CONFIG, CPU, backend=name)
        stage.workers.threads = 1
        for step in range(4):
            stage.step(step, step / 4)
    figures = {name: stage.measure()["psnr"] for name, stage in stages.items()}
    assert figures["tcnn"] == pytest.approx(figures["torch"], abs=0.1)
    camera = scene.frames[0].camera
    before = stages["tcnn"].renderer.render(camera, normals=True)
    stages["torch"].load_state(stages["tcnn"].state())
    after = stages["torch"].renderer.render(camera, normals=True)
    for name in ("rgb", "opacity", "normal"):
        assert abs(before[name] - after[name]).mean() < 1e-3


def test_absent_tinycudann_is_said_plainly(monkeypatch):
    stand_ins.put_in_place(monkeypatch)
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    with pytest.raises(DeviceError, match="tinycudann.*cannot be used here"):
        make_backend("tcnn", LEVELS, CPU)


def test_absent_nerfacc_is_said_plainly(monkeypatch):
    stand_ins.put_in_place(monkeypatch)
    monkeypatch.setitem(sys.modules, "nerfacc", None)
    with pytest.raises(DeviceError, match="nerfacc.*cannot be used here"):
        make_backend("tcnn", LEVELS, CPU)


def test_nerfacc_without_a_compiler_is_said_plainly(monkeypatch, capsys):
    def without(*_):
        print("No CUDA toolkit found.")
        raise AttributeError("'NoneType' object has no attribute 'ray_aabb_intersect'")

    stand_ins.put_in_place(monkeypatch)
    monkeypatch.setitem(sys.modules, "nerfacc", types.SimpleNamespace(ray_aabb_intersect=without))
    with pytest.raises(DeviceError, match="nerfacc.*cannot be used here") as caught:
        make_backend("tcnn", LEVELS, CPU)
    assert "nvcc" in caught.value.fix and capsys.readouterr().out == ""


def test_a_grid_of_another_layout_is_refused(monkeypatch):
    class Other(stand_ins.Encoding):
        def __init__(self, *arguments, **keywords) -> None:
            super().__init__(*arguments, **keywords)
            self.params = torch.nn.Parameter(torch.zeros(7))

    stand_ins.put_in_place(monkeypatch, Encoding=Other)
    with pytest.raises(DeviceError, match="has 7 parameters"):
        make_backend("tcnn", LEVELS, CPU)
