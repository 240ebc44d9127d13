"""Trainings in two processes, and with accumulated gradients, have the loss curve of one process."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import loss_curves
import pytest
import torch
from loss_curves import Curves, clip_curves, dino_curves, naming_curves, pose_curves
from test_training import here  # noqa: F401 - every test
from timm.layers import BatchNormAct2d  # pyright: ignore[reportPrivateImportUsage]

from ovseg3d.engine import latest_checkpoint, load_checkpoint
from ovseg3d.errors import ConfigError
from ovseg3d.heads.detection.network import DetectionShape
from scripts.training.detection_stage import DetectionRecipe
from scripts.training.distributed import ALONE, SharedBatchNorm, World, join, share_batch_norms
from scripts.training.train_detection import TrainDetection

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
ROOT = Path(__file__).parents[2]


def same_curves(one: Curves, two: Curves) -> None:
    """Every figure of every step is the same to 1e-5."""
    assert one.keys() == two.keys() and one
    for name, curve in one.items():
        assert len(curve) >= 3
        for step, (first, second) in enumerate(zip(curve, two[name], strict=True)):
            assert first == pytest.approx(second, rel=1e-5, abs=1e-5), f"{name}, step {step}"
        assert curve[0] != curve[-1], f"{name} learns"


@pytest.fixture(scope="module")
def of_two(tmp_path_factory: pytest.TempPathFactory) -> Curves:
    for _ in range(2):
        folder = tmp_path_factory.mktemp("two")
        command = [*TORCHRUN, loss_curves.__file__, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        if "terminate called without an active exception" not in done.stderr:
            break  # else a thread of torch's own ended its process, as was seen once
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("the first process prints") == 1
    return json.loads((folder / "curves.json").read_text())


@pytest.mark.parametrize("make", loss_curves.ALL)
def test_two_processes_have_the_curve_of_one(make, of_two: Curves, tmp_path: Path) -> None:
    alone = make(tmp_path, ALONE)
    same_curves(alone, {name: of_two[name] for name in alone})


def test_accumulated_gradients_have_the_curve_of_whole_batches(tmp_path: Path) -> None:
    parts = World(accumulate=3)
    for make in (dino_curves, pose_curves, naming_curves):
        same_curves(make(tmp_path / f"{make.__name__}1", ALONE), make(tmp_path / f"{make.__name__}3", parts))
    # This tower has layer norms, and a larger stride.
    changes = {"tower": "test_convnext", "sizes": ((0.0, 32),), "view_sizes": ((0.0, 32),)}
    same_curves(clip_curves(tmp_path / "1", ALONE, **changes), clip_curves(tmp_path / "3", parts, **changes))


def test_batch_norms_refuse_parts_of_a_batch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch norms"):
        clip_curves(tmp_path, World(accumulate=2))
    with pytest.raises(ConfigError, match="BatchNormAct2d"):  # its activation would be lost
        share_batch_norms(torch.nn.Sequential(BatchNormAct2d(3)), World(0, 2))
    with pytest.raises(ConfigError, match="at least one part"), join(accumulate=0):
        pass


def test_a_batch_is_shared_evenly_or_refused() -> None:
    worlds = [World(rank, 3) for rank in range(3)]
    rows = [list(range(10))[world.own(10)] for world in worlds]
    assert sum(rows, []) == list(range(10)) and {len(part) for part in rows} == {3, 4}
    worlds[0].check_batch(batch=9)
    with pytest.raises(ConfigError, match="10 rows cannot be shared evenly by 3"):
        worlds[0].check_batch(batch=9, views=10)


def test_random_numbers_of_rows_do_not_depend_on_the_processes() -> None:
    def drawn(world: World, times: int) -> tuple[torch.Tensor, dict[int, float]]:
        random = world.random(torch.Generator().manual_seed(0), 4, times)
        return torch.cat([random.uniform(2.0, 3.0, 5), random.unit(5)], 1), random.some_uniform(0.5, 0.0, 1.0)

    for times in (1, 2):
        whole, chosen = drawn(ALONE, times)
        (first, one), (second, two) = (drawn(World(rank, 2), times) for rank in range(2))
        whole = whole.view(times, 2, 2, 10)
        assert torch.equal(first, whole[:, 0].flatten(0, 1)) and torch.equal(second, whole[:, 1].flatten(0, 1))
        assert sorted([*one.values(), *two.values()]) == sorted(chosen.values()) and chosen
        assert whole[..., :5].min() >= 2 and whole[..., 5:].max() <= 1


@pytest.mark.parametrize("momentum", [0.1, 0.5])
def test_a_shared_batch_norm_is_a_batch_norm(momentum: float) -> None:
    torch.manual_seed(0)
    plain, own = (torch.nn.Sequential(torch.nn.BatchNorm2d(3, momentum=momentum)) for _ in range(2))
    shared = torch.nn.Sequential(SharedBatchNorm(own[0], ALONE))
    x = torch.randn(4, 3, 5, 6) * 2 + 1
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    out = [network(value) for network, value in zip((plain, shared), inputs)]
    for value in out:
        value.square().mul(torch.arange(6.0)).sum().backward()
    torch.testing.assert_close(out[1], out[0])
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad, atol=1e-4, rtol=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(own.state_dict()[name], value, msg=name)
    torch.testing.assert_close(shared.eval()(x), plain.eval()(x))


def test_ctrl_c_ends_all_processes_with_one_checkpoint(tmp_path: Path) -> None:
    """And one process goes on from it."""
    arguments = ["--output", tmp_path / "net.safetensors", "--work", tmp_path / "work", "--rooms", tmp_path / "rooms"]
    arguments += ["--room-count", "2", "--batch", "2", "--steps", "1000", "--checkpoint-seconds", "0.001"]
    arguments += ["--max-seconds", "None", "--stem", "8", "--widths", "8", "8", "8", "8", "--head", "16"]
    command = [*TORCHRUN, "-m", "scripts.training.train_detection", *arguments]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while latest_checkpoint(tmp_path / "work/detection") is None and running.poll() is None:
        assert time.monotonic() < until
        time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=120)
    assert running.returncode != 0 and said.count("detection interrupted") == 1, errors[-3000:]
    path = latest_checkpoint(tmp_path / "work/detection")
    assert path is not None
    done = load_checkpoint(path, "detection").step
    recipe, shape = DetectionRecipe(batch=2), DetectionShape(stem=8, widths=(8, 8, 8, 8), head=16)
    folders = {"output": tmp_path / "net.safetensors", "work": tmp_path / "work", "rooms": tmp_path / "rooms"}
    alone = TrainDetection(**folders, room_count=2, steps=done + 1, max_seconds=None, recipe=recipe, shape=shape)
    assert done >= 1 and alone.main() == 0
    path = latest_checkpoint(tmp_path / "work/detection")
    assert path is not None and load_checkpoint(path, "detection").step == done + 1
