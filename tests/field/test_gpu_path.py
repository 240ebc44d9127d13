"""What a GPU would be asked to do, counted on the CPU: see `counting.py`. The figures are those of the code today."""

# pyright: reportPrivateUsage=false

from dataclasses import replace

import numpy as np
import pytest
import torch
from counting import Work, as_on_a_gpu
from tiny import small_settings

from ovseg3d.engine import Workers, tf32_matmul
from ovseg3d.field.backends import make_backend
from ovseg3d.field.config import FieldConfig
from ovseg3d.field.levels import grid_levels
from ovseg3d.field.renderer import RAYS_AT_ONCE
from ovseg3d.field.stage import LAG, MARCHED_ROWS, CaptureUse, FieldStage, next_count
from ovseg3d.scene import Cameras, Scene, load_scene
from ovseg3d.scene.sparse import SparseDepth

CPU = torch.device("cpu")
CONFIG = replace(FieldConfig(**small_settings()["field"]), samples=16384, occupancy_warmup=16)
MARCHED = CONFIG.samples * MARCHED_ROWS
KEPT = CONFIG.samples


@pytest.fixture(scope="module")
def scene(tiny_scene) -> Scene:
    return load_scene(tiny_scene)


@pytest.fixture(scope="module")
def trained(scene):
    """A stage that was trained as on a GPU until all losses are in use."""
    with pytest.MonkeyPatch.context() as patch:
        as_on_a_gpu(patch)
        stage = FieldStage(scene, CONFIG, CPU)
        with stage.workers.open():
            for step in range(60):
                stage.step(step, step / 240)
        yield stage


def test_a_step_waits_for_nothing_and_has_few_rows(trained: FieldStage, monkeypatch: pytest.MonkeyPatch) -> None:
    with Work(monkeypatch) as work:
        trained.step(60, 0.25)
    # The only read is of counts of an earlier step, which have arrived.
    assert work.waits == ["tolist"] and work.sent == 0
    launches = {
        "march": 2, "encode": 1, "merge": 2, "composite": 1, "composite_gradient": 1, "distortion": 1, "scatter_max": 1,
        "table_gradient": 1, "adam": 1,
    }  # fmt: skip
    assert work.launches == launches
    levels = len(trained.field.levels.levels)
    assert work.threads["encode"] == levels * MARCHED and work.threads["table_gradient"] == levels * KEPT
    # Marched samples are encoded and get a density; what is differentiated has rows of its own, and nothing has more.
    assert max(work.rows) == MARCHED
    assert work.rows[MARCHED] <= 26 and work.rows[KEPT] <= 76, work.rows
    assert work.operations <= 285, work.operations
    load = trained.measure()
    assert 0.2 < load["samples_marched"] / MARCHED < 1.0 and 0.2 < load["samples_kept"] / KEPT < 1.0, load
    assert work.bytes < MARCHED * 640, work.bytes


def test_a_step_with_sparse_points_waits_for_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines of pixels, completed depth and rays through points, exposure and poses: as for real photos."""
    views = len(scene.train)
    shape = (views, 4, 4)
    sparse = SparseDepth(
        view=np.zeros(1, np.int64), xy=np.array([[2.0, 2.0]]), depth_z=np.array([1.0]), sigma=np.array([0.01]),
        disparity=np.full(shape, 1.0, np.float32), disparity_sigma=np.zeros(shape, np.float32),
        cell=np.full(views, 8), points=np.zeros((1, 3)),
        c2w=np.stack([scene.frames[view].camera.c2w for view in scene.train]),
        focal_ratio=np.ones((views, 2)), errors_px=np.zeros(2),
    )  # fmt: skip
    as_on_a_gpu(monkeypatch)
    stage = FieldStage(scene, CONFIG, CPU, use=CaptureUse(exposure=True, refine_poses=True, sparse=sparse))
    with stage.workers.open():
        for step in range(50):
            stage.step(step, step / 240)
    with Work(monkeypatch) as work:
        stage.step(50, 0.25)
    assert work.waits == ["tolist"] and work.sent == 0
    assert work.launches["position_gradient"] == 1 and work.threads["position_gradient"] == KEPT
    assert work.operations <= 715, work.operations


def test_photos_stay_on_the_device(trained: FieldStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drawn batch is made there, from bytes of colour."""
    with Work(monkeypatch) as work:
        (batch,) = trained._draw(61)
    assert work.sent == 0 and not work.waits and work.operations <= 26, work.operations
    assert len(batch.view) == trained._ray_count


def test_an_exchange_of_photos_waits_for_nothing(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Photos that don't all fit take turns; their bytes are copied from pinned memory."""
    as_on_a_gpu(monkeypatch)
    photo = scene.frames[0].camera.width * scene.frames[0].camera.height * 3
    monkeypatch.setattr("ovseg3d.scene.photos.DEVICE_BUDGET", 2 * photo)
    stage = FieldStage(scene, CONFIG, CPU, steps=240)
    sent = []
    with stage.workers.open():
        for step in range(40):
            stage.step(step, step / 240)
        for step in range(40, 60):
            with Work(monkeypatch) as work:
                stage.step(step, step / 240)
            assert work.waits == ["tolist"] and work.sent == 0
            sent.append(work.queued)
    table = 4 * 2 * 8
    assert set(sent) == {0, photo + table} and 1 < sum(map(bool, sent)) < 10, sent


def test_the_number_of_rays_follows_counts_of_earlier_steps(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    as_on_a_gpu(monkeypatch)
    stage = FieldStage(scene, replace(CONFIG, samples=65536, max_rays=4096), CPU)
    rays = []
    for step in range(LAG + 4):
        rays.append(stage._ray_count)
        stage.step(step, 0.0)
    assert rays[: LAG + 1] == [rays[0]] * (LAG + 1) and rays[0] < rays[LAG + 1] <= rays[LAG + 2] <= 1.25 * rays[LAG + 1]


@pytest.mark.parametrize("unit", [64, 192])
def test_a_ladder_of_ray_counts_is_climbed_and_descended_in_small_steps(unit: int) -> None:
    count = 1024 // unit * unit
    for wanted, end in ((65536.0, 65536 // unit * unit), (512.0, 512 // unit * unit)):
        counts = [count]
        while (count := next_count(counts[-1], wanted, unit)) != counts[-1]:
            counts.append(count)
        assert counts[-1] == end and len(counts) < 36
        factors = [max(a, b) / min(a, b) for a, b in zip(counts, counts[1:])]
        assert max(factors) < 1.2 + 2 * unit / 1024
        count = counts[-1]
    assert next_count(4096 // unit * unit, 4096.0, unit) == 4096 // unit * unit


def test_rendered_chunks_have_as_many_rows_as_samples(
    trained: FieldStage, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    renderer = trained.renderer
    camera = replace(scene.frames[0].camera, width=96, height=64, cx=48.0, cy=32.0)
    marched = []
    sample = renderer.sampler.sample

    def noted(*arguments, **options):
        met = sample(*arguments, **options)
        marched.append((len(arguments[0]), int(met.samples.offsets[-1]), len(met.density), len(met.index)))
        return met

    origins, directions, _ = Cameras.from_cameras([camera], renderer.box.field_from_input, CPU).grid(0)
    with monkeypatch.context() as patch:
        patch.setattr(renderer.sampler, "sample", noted)
        packed = renderer.rays(origins, directions)
    assert [rays for rays, *_ in marched] == [RAYS_AT_ONCE, 4 * RAYS_AT_ONCE, RAYS_AT_ONCE]
    assert all(used == rows and kept <= rows for _, used, rows, kept in marched)
    with Work(monkeypatch) as work:
        renderer.rays(origins, directions)
    chunks = len(marched)
    assert work.waits == ["aten::_local_scalar_dense"] * 2 * chunks
    once = dict.fromkeys(("encode", "composite", "median"), chunks)
    assert work.launches == {"march": 2 * chunks, "merge": 2 * chunks, **once}
    assert work.threads["encode"] == len(trained.field.levels.levels) * max(rows for *_, rows, _ in marched)
    monkeypatch.setattr(renderer, "packed", False)
    equal = renderer.rays(origins, directions)
    for name in ("rgb", "distance", "opacity"):
        torch.testing.assert_close(getattr(packed, name), getattr(equal, name))


def test_chunks_shrink_when_the_memory_ends(trained: FieldStage, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, sizes = trained.renderer, []
    origins, directions, _ = Cameras.from_cameras([scene.frames[0].camera], renderer.box.field_from_input, CPU).grid(0)
    whole, sample = renderer.rays(origins, directions), renderer.sampler.sample

    def small(*arguments, **options):
        sizes.append(len(arguments[0]))
        if sizes[-1] > 300:
            raise torch.cuda.OutOfMemoryError("too many")
        return sample(*arguments, **options)

    monkeypatch.setattr(renderer.sampler, "sample", small)
    cut = renderer.rays(origins, directions)
    assert sizes[0] == RAYS_AT_ONCE and len([size for size in sizes if size > 300]) == 2, "it forgot what fits"
    for name in ("rgb", "distance", "opacity"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name))


def test_padded_buffers_hold_the_same_samples(trained: FieldStage) -> None:
    sampler = trained.renderer.sampler
    directions = torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    origins = torch.zeros(200, 3)
    cut = sampler.sample(origins, directions, 0.0, None)
    padded = sampler.sample(origins, directions, 0.0, 20_000, 15_000)
    used, kept = len(cut.density), len(cut.index)
    assert (len(padded.density), len(padded.index)) == (20_000, 15_000) and 0 < kept <= used < 20_000
    for name, rows in (("x", used), ("features", used), ("density", used), ("weight", used), ("index", kept)):
        torch.testing.assert_close(getattr(cut, name), getattr(padded, name)[:rows])
    assert not padded.weight[used:].any() and not padded.step[kept:].any() and torch.equal(cut.offsets, padded.offsets)


def test_unused_rows_write_nowhere() -> None:
    """Negative zeros would become positive by adding a zero."""
    levels = grid_levels(CONFIG)
    backend = make_backend("warp", levels, CPU)
    x, grad = torch.rand(10, 3), torch.zeros(10, levels.width)
    table = torch.full((levels.entries, levels.features), -0.0)
    backend.add_table_gradient([(x, grad)], table, Workers(1))
    assert torch.signbit(table).all()
    grad[3] = 1.0
    backend.add_table_gradient([(x, grad)], table, Workers(1))
    assert 0 < int((table != 0).any(-1).sum()) <= 8 * len(levels.levels)
    value = torch.full((1, 2, 2, 2), -1.0)
    backend.scatter_max(torch.zeros(5, dtype=torch.int32), torch.tensor([0.0, 0.0, 0.5, 0.0, 0.0]), value)
    backend.scatter_max(torch.ones(5, dtype=torch.int32), torch.zeros(5), value)
    assert value.view(-1)[:2].tolist() == [0.5, -1.0]


def train_without_waiting(stage: FieldStage) -> None:
    """Sixty steps on a GPU; an error where one of the last twenty waits for it."""
    for step in range(40):
        stage.step(step, step / 240)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for step in range(40, 60):
            stage.step(step, step / 240)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_step_on_a_gpu_does_not_wait(scene: Scene) -> None:
    stage = FieldStage(scene, CONFIG, torch.device("cuda"))
    train_without_waiting(stage)
    assert stage.measure()["psnr"] > 10


@pytest.mark.gpu
def test_an_exchange_of_photos_does_not_wait_for_a_gpu(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    photo = scene.frames[0].camera.width * scene.frames[0].camera.height * 3
    monkeypatch.setattr("ovseg3d.scene.photos.DEVICE_BUDGET", 2 * photo)
    stage = FieldStage(scene, CONFIG, torch.device("cuda"), steps=240)
    train_without_waiting(stage)
    assert stage.measure()["psnr"] > 8


@pytest.mark.gpu
@pytest.mark.parametrize("real", [False, True])
def test_a_graph_does_what_a_step_does(scene: Scene, real: bool) -> None:
    """The same rays and random numbers."""
    cuda = torch.device("cuda")
    stage = FieldStage(scene, CONFIG, cuda, use=CaptureUse(exposure=real, refine_poses=real))
    for step in range(60):
        stage.step(step, step / 240)
    before = {name: value.clone() for name, value in stage.state().items()}
    for step in range(60, 80):
        stage.step(step, step / 240)
    (batch,) = stage._draw(80)
    for _ in range(2):
        stage._replayed(80, 0, batch)
    assert stage._graphs is not None and (stage._ray_count, 1.0) in stage._graphs._captured
    # What a graph reads has changed since: the field, the photos' corrections and the cells.
    stage.load_state(before)
    stage._ray_count = len(batch.view)
    result = stage._replayed(80, 0, batch)
    replayed = {name: value.clone() for name, value in vars(result).items() if value is not None}
    with tf32_matmul():
        once = stage._piece(batch, 1.0, len(batch.view), stage._generator(80, 0))
    assert torch.equal(replayed["cell"], once.cell)
    # The algorithm of a product may depend on the stream, so a group may end a sample later.
    assert (replayed["used"] - once.used).abs().max() < 20
    for name in ("weight", "grad_network", "squared_error", *(["grad_photos"] if real else [])):
        mine, other = replayed[name], getattr(once, name)
        assert float((mine - other).norm() / other.norm()) < 0.02, name


@pytest.mark.gpu
def test_a_gpu_renders_what_the_cpu_renders(trained: FieldStage, scene: Scene) -> None:
    stage = FieldStage(scene, CONFIG, torch.device("cuda"))
    stage.load_state(trained.state())
    there, here = (each.renderer.render(scene.frames[0].camera) for each in (stage, trained))
    for name in ("rgb", "opacity"):
        assert np.abs(there[name] - here[name]).mean() < 0.01
