"""The script that compares two runs bit by bit, on tiny runs."""

import shutil
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ovseg3d.errors import RunError
from ovseg3d.session import Run
from scripts.benchmarks.same_bits import SameBits

PHRASES = ("red", "blue")


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run.folder, tmp_path / "copy"))


def test_a_run_and_its_copy_are_the_same_whatever_its_tensors_are_called(
    run: Run, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = next(copy.glob("checkpoints/*.safetensors"))
    before = checkpoint.read_bytes()
    save_file({f"new {name}": value for name, value in load_file(checkpoint).items()}, checkpoint)
    assert checkpoint.read_bytes() != before
    assert SameBits(run.folder, copy, PHRASES).main() == 0
    table = capsys.readouterr().out
    assert table.count("| same |") == 3 and "DIFFERENT" not in table


def test_one_bit_of_one_tensor_and_another_answer_are_found(
    run: Run, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = next(copy.glob("checkpoints/*.safetensors"))
    whole = bytearray(checkpoint.read_bytes())
    whole[-1] ^= 1
    checkpoint.write_bytes(whole)
    assert SameBits(run.folder, copy, PHRASES).main() == 1
    table = capsys.readouterr().out
    assert "| in one run only | 1 | 1 |" in table and table.count("DIFFERENT") == 1

    (copy / "semantics.safetensors").unlink()
    assert SameBits(run.folder, copy, PHRASES).main() == 1
    assert "| semantics | yes | no | DIFFERENT |" in capsys.readouterr().out


def test_answers_that_differ_are_found(run: Run, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    semantics = copy / "semantics.safetensors"
    with safe_open(semantics, "numpy") as file:
        facts = file.metadata()
    tensors = load_file(semantics)
    save_file(tensors | {"vectors": -tensors["vectors"]}, semantics, facts)
    assert SameBits(run.folder, copy, PHRASES).main() == 1
    rows = capsys.readouterr().out.splitlines()
    assert [row.split()[1] for row in rows if "DIFFERENT" in row] == ["tensors", '"red"', '"blue"']


def test_a_folder_without_a_run_is_the_users_mistake(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError):
        SameBits(run.folder, tmp_path / "empty").main()
