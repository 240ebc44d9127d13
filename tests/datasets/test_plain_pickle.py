"""Pickles are read as plain data: containers, numbers, text and arrays; all else is refused."""

import collections
import io
import os
import pickle
import pickletools
from pathlib import Path

import numpy as np
import pytest

from ovseg3d.datasets import read_plain_pickle
from ovseg3d.errors import SceneError


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):  # noqa: ANN204
        return os.mkdir, (str(self.mark),)


def written(path: Path, value: object, protocol: int = 4) -> Path:
    path.write_bytes(pickle.dumps(value, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_data_comes_back(tmp_path: Path, protocol: int) -> None:
    value = {
        "numbers": [1, 2.5, True, None, 10**30, -1],
        "text": ("é", b"bytes", ""),
        "arrays": [
            np.arange(6, dtype=np.int32).reshape(2, 3),
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.array(["bed", "night_stand"]),
            np.zeros((0, 7)),
            np.arange(3, dtype=">i4"),
            np.array(5.0),
        ],
        "scalars": [np.float32(1.5), np.int64(7)],
    }
    found = read_plain_pickle(written(tmp_path / "a.pkl", value, protocol))
    assert found["numbers"] == value["numbers"] and found["text"] == value["text"]
    for array, expected in zip(found["arrays"], value["arrays"]):
        assert np.array_equal(array, expected) and array.shape == expected.shape
    assert found["scalars"] == [1.5, 7]
    if protocol > 1:
        assert read_plain_pickle(written(tmp_path / "b.pkl", collections.OrderedDict(a=1), protocol)) == {"a": 1}


def test_what_would_run_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pkl", {"a": [Evil(tmp_path / "ran")]})
    with pytest.raises(SceneError, match=r"names 'posix.mkdir'"):
        read_plain_pickle(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(path.read_bytes())
    assert (tmp_path / "ran").exists(), "the plain unpickler does run it"


@pytest.mark.parametrize(
    "value",
    [np.array([{"a": 1}, None], dtype=object), {1, 2}, complex(1, 2), np.array([1j]), Path("x"), slice(2), len, Evil],
    ids=repr,
)
def test_other_things_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(SceneError):
        read_plain_pickle(written(tmp_path / "a.pkl", value))


def test_damage_is_an_error_of_the_user(tmp_path: Path) -> None:
    path = tmp_path / "a.pkl"
    data = pickle.dumps({"a": np.arange(20.0), "b": ["text"] * 3})
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged[: rng.integers(1, len(data) + 1)]))
        try:
            read_plain_pickle(path)
        except SceneError:
            refused += 1
    assert refused > 250
    with pytest.raises(SceneError, match="missing"):
        read_plain_pickle(tmp_path / "none.pkl")


def test_an_array_larger_than_its_bytes_is_refused(tmp_path: Path) -> None:
    data = pickle.dumps(np.zeros((3, 4), dtype=np.uint8), protocol=2)
    path = tmp_path / "a.pkl"
    path.write_bytes(data.replace(b"K\x03K\x04", b"K\xffK\xff"))
    assert data != path.read_bytes()
    with pytest.raises(SceneError, match="size"):
        read_plain_pickle(path)


def test_shared_and_circular_parts_end(tmp_path: Path) -> None:
    """Shared parts are walked once: these forty levels would be 2^40 lists."""
    level: list[object] = []
    for _ in range(40):
        level = [level, level]
    circle: list[object] = [level]
    circle.append(circle)
    found = read_plain_pickle(written(tmp_path / "a.pkl", circle))
    assert found[1] is found and found[0][0] is found[0][1]


def test_a_pickle_cannot_change_what_reads_the_next_one(tmp_path: Path) -> None:
    """BUILD sets attributes of what was named before; the stand-ins are made anew for each name."""
    opcodes = b"\x80\x02c_codecs\nencode\n}X\x03\x00\x00\x00keyK\x01sb."
    assert any(opcode.name == "BUILD" for opcode, *_ in pickletools.genops(io.BytesIO(opcodes)))
    path = tmp_path / "a.pkl"
    path.write_bytes(opcodes)
    with pytest.raises(SceneError):
        read_plain_pickle(path)
    assert read_plain_pickle(written(tmp_path / "b.pkl", b"bytes", 2)) == b"bytes"
