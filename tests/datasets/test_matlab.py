"""MATLAB's files: what SciPy writes comes back, and damage is an error of the user, never a crash."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from ovseg3d.datasets.matlab import read_matlab
from ovseg3d.errors import SceneError

VALUE: dict[str, Any] = {
    "text": "aéroplane",
    "empty": "",
    "number": 5.5,
    "small": np.array([[1, 2], [3, 4]], dtype=np.uint8),
    "row": np.arange(7, dtype=np.int16),
    "single": np.linspace(0, 1, 24, dtype=np.float32).reshape(2, 3, 4),
    "big": np.array([[2**60]], dtype=np.int64),
    "inner": {"azimuth": 350.25, "name": "car"},
    "none": np.zeros((0, 0)),
    "true": True,
    "cell": np.array(["a", np.arange(3.0), {"x": 1}], dtype=object),
    "objects": np.array([("car", 1.0), ("bus", 2.0)], dtype=[("class", object), ("distance", object)]),
}


@pytest.mark.parametrize("compressed", [False, True])
def test_what_scipy_writes_comes_back(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"other": 1, "record": VALUE}, do_compression=compressed)
    found = read_matlab(path, "record")
    assert (found["text"], found["inner"]["name"]) == ("aéroplane", "car")
    assert found["number"] == 5.5 and found["inner"]["azimuth"] == 350.25 and found["true"] == 1
    for name in ("small", "single", "big", "none"):
        assert np.array_equal(found[name], VALUE[name]) and found[name].dtype == VALUE[name].dtype
    assert np.array_equal(found["row"], [VALUE["row"]]) and len(found["empty"]) == 0
    assert found["cell"][0] == "a" and np.array_equal(found["cell"][1], [[0, 1, 2]]) and found["cell"][2] == {"x": 1}
    assert [one["class"] for one in found["objects"]] == ["car", "bus"] and found["objects"][1]["distance"] == 2
    assert read_matlab(path, "other") == 1
    with pytest.raises(SceneError, match="no variable 'records'"):
        read_matlab(path, "records")


def test_what_is_not_plain_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    for value, words in ((np.array([1j]), "complex"), (1, "cannot be read")):
        savemat(path, {"record": value}, format="5" if words == "complex" else "4")
        with pytest.raises(SceneError, match=words):
            read_matlab(path, "record")
    deep: dict[str, object] = {"x": 1}
    for _ in range(31):
        deep = {"x": deep}
    savemat(path, {"record": {"x": {"x": deep}}})
    with pytest.raises(SceneError, match="nested too deeply"):
        read_matlab(path, "record")


@pytest.mark.parametrize("compressed", [False, True])
def test_damage_is_an_error_of_the_user(tmp_path: Path, compressed: bool) -> None:
    """SciPy's reader ends the process on some of these."""
    path = tmp_path / "a.mat"
    savemat(path, {"record": VALUE}, do_compression=compressed)
    data, rng, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(300):
        damaged = bytearray(data)
        for place in rng.integers(126, len(data), 3):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(bytes(damaged[: rng.integers(100, len(data) + 1)] if rng.random() < 0.2 else damaged))
        try:
            read_matlab(path, "record")
        except SceneError:
            refused += 1
    assert refused > 100


def test_a_small_file_with_a_huge_variable_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.mat"
    savemat(path, {"record": np.zeros((100, 100))}, do_compression=True)
    assert read_matlab(path, "record").shape == (100, 100) and path.stat().st_size < 10_000
    monkeypatch.setattr("ovseg3d.datasets.matlab.MAX_TABLE_BYTES", 10_000)
    with pytest.raises(SceneError, match="too large"):
        read_matlab(path, "record")
