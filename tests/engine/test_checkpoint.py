"""Checkpoints: round trip, interruptions, and bad files, which are reported and never executed."""

import json
import os
import pickle
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ovseg3d.engine import Checkpoint, latest_checkpoint, load_checkpoint, save_checkpoint
from ovseg3d.errors import OutputError, RunError


def checkpoint(step: int) -> Checkpoint:
    state = {"table": torch.full((50, 4), float(step)), "rays": torch.tensor(7)}
    return Checkpoint("field", step, 12.5, state, {"box": {"radius": 2.0}})


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path, checkpoint(1000))


def test_what_is_saved_comes_back(saved):
    back = load_checkpoint(saved, "field", {"table": torch.Size([50, 4])})
    expected = checkpoint(1000)
    assert (back.stage, back.step, back.seconds, back.facts) == ("field", 1000, 12.5, {"box": {"radius": 2.0}})
    assert back.state.keys() == expected.state.keys()
    assert all(torch.equal(back.state[name], tensor) for name, tensor in expected.state.items())


def test_strided_and_attached_tensors_are_kept(tmp_path):
    tensor = torch.arange(12.0).view(3, 4).T.requires_grad_()
    path = save_checkpoint(tmp_path, Checkpoint("field", 1, 0.0, {"x": tensor}))
    assert torch.equal(load_checkpoint(path, "field").state["x"], tensor)


def test_only_the_newest_stays(tmp_path):
    for step in (9, 10, 2000):
        save_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000002000.json", "step-000002000.safetensors"]
    assert json.loads((tmp_path / "step-000002000.json").read_text())["step"] == 2000


def test_the_newest_is_found_by_its_step(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for step in (10, 9, 2000):
        save_checkpoint(tmp_path, checkpoint(step), keep=5)
    assert latest_checkpoint(tmp_path).name == "step-000002000.safetensors"


# -- interruptions -----------------------------------------------------------------------------------------------


def _killed(work) -> None:
    """Run `work` in a fork of this process, which must end by kill -9."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("moment", ["half written", "written, not yet renamed"])
def test_kill_9_while_writing_leaves_the_previous_one(saved, moment):
    def write() -> None:
        import ovseg3d.engine.checkpoint as module

        def half(state, path, metadata):
            save_file(state, path, metadata=metadata)
            os.truncate(path, Path(path).stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

        if moment == "half written":
            module.save_file = half
        else:
            os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        save_checkpoint(saved.parent, checkpoint(2000))

    _killed(write)
    assert latest_checkpoint(saved.parent) == saved
    assert load_checkpoint(saved, "field").step == 1000
    # The next one is written normally.
    save_checkpoint(saved.parent, checkpoint(3000))
    assert load_checkpoint(latest_checkpoint(saved.parent), "field").step == 3000


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError):
        save_checkpoint(tmp_path / "file", checkpoint(1))


# -- bad files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_a_cut_file_is_told(saved, share):
    os.truncate(saved, int(saved.stat().st_size * share))
    with pytest.raises(RunError, match="cut or damaged") as caught:
        load_checkpoint(saved, "field")
    assert caught.value.where == saved and caught.value.fix


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(RunError, match="missing"):
        load_checkpoint(tmp_path / "step-000000001.safetensors", "field")


def test_a_folder_in_its_place_is_told(tmp_path):
    (tmp_path / "step-000000001.safetensors").mkdir()
    with pytest.raises(RunError):
        load_checkpoint(tmp_path / "step-000000001.safetensors", "field")


class _Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_a_pickle_is_refused_and_not_run(tmp_path, writer):
    path, mark = tmp_path / "step-000000001.safetensors", tmp_path / "ran"
    if writer == "pickle":
        path.write_bytes(pickle.dumps(_Bomb(mark)))
    else:
        torch.save({"table": _Bomb(mark)}, path)
    with pytest.raises(RunError):
        load_checkpoint(path, "field")
    assert not mark.exists()


def test_a_header_that_claims_too_much_is_refused(tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(RunError):
        load_checkpoint(path, "field")
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(RunError):
        load_checkpoint(path, "field")


GOOD = {"format_version": 1, "stage": "field", "step": 5, "seconds": 1.0, "facts": {}}


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (None, "not written by ovseg3d"),
        ("[]", "not written by ovseg3d"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
        (GOOD | {"format_version": 99}, "version 99"),
        (GOOD | {"stage": "semantics"}, "'semantics'"),
        (GOOD | {"facts": []}, "not written by ovseg3d"),
        (GOOD | {"step": "many"}, "not a number"),
        (GOOD | {"step": -1}, "not a number"),
        (GOOD | {"step": None}, "not a number"),
        (GOOD | {"seconds": float("nan")}, "not a number"),
        ({key: value for key, value in GOOD.items() if key != "step"}, "not a number"),
    ],
)
def test_a_header_that_is_wrong_is_told(tmp_path, header, says):
    path = tmp_path / "step-000000005.safetensors"
    text = header if isinstance(header, str) else json.dumps(header)
    save_file({"x": torch.zeros(2)}, path, metadata=None if header is None else {"ovseg3d": text})
    with pytest.raises(RunError, match=says):
        load_checkpoint(path, "field")


def test_the_header_of_the_bad_ones_is_otherwise_good(tmp_path):
    path = tmp_path / "step-000000005.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata={"ovseg3d": json.dumps(GOOD)})
    assert load_checkpoint(path, "field").step == 5


@pytest.mark.parametrize("shapes", [{"table": torch.Size([3])}, {"absent": torch.Size([3])}])
def test_other_shapes_are_told(saved, shapes):
    with pytest.raises(RunError, match="shape"):
        load_checkpoint(saved, "field", shapes)
