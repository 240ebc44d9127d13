"""The choice of device and backend: nothing is replaced silently."""

import importlib.util

import pytest

from ovseg3d.errors import DeviceError
from ovseg3d.runs import devices
from ovseg3d.runs.devices import Availability, backend_status, resolve_backend, resolve_device


def set_cuda(monkeypatch: pytest.MonkeyPatch, on: bool) -> None:
    monkeypatch.setattr(devices, "cuda_status", lambda: Availability("cuda", on, "as the test says"))


def test_auto_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, False)
    assert resolve_device("auto") == "cpu"
    set_cuda(monkeypatch, True)
    assert resolve_device("auto") == "cuda" and resolve_device("cpu") == "cpu"


def test_a_gpu_that_is_absent_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_cuda(monkeypatch, False)
    with pytest.raises(DeviceError) as caught:
        resolve_device("cuda")
    assert "as the test says" in caught.value.what and "--device cpu" in str(caught.value.fix)


def test_auto_backend_is_warp() -> None:
    assert resolve_backend("auto", "cpu") == "warp" and resolve_backend("torch", "cpu") == "torch"


@pytest.mark.parametrize("absent", ["tinycudann", "nerfacc"])
def test_tcnn_needs_cuda_and_its_packages(monkeypatch: pytest.MonkeyPatch, absent: str) -> None:
    there = {"tinycudann", "nerfacc"} - {absent}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == absent else name)
    said = f"{absent} is not installed"
    with pytest.raises(DeviceError, match=f"needs a CUDA device.*{said}"):
        resolve_backend("tcnn", "cpu")
    with pytest.raises(DeviceError, match=said) as caught:
        resolve_backend("tcnn", "cuda")
    assert f"{there.pop()} is installed" in caught.value.what
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    assert resolve_backend("tcnn", "cuda") == "tcnn"


def test_without_warp_the_user_is_told_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "warp" else real(n))
    with pytest.raises(DeviceError, match="warp-lang") as caught:
        resolve_backend("auto", "cpu")
    assert "pip install warp-lang" in str(caught.value.fix)


def test_every_backend_says_why() -> None:
    for device in ("cpu", "cuda"):
        for status in backend_status(device):
            assert status.why
            assert status.name != "torch", "a reference for tests is no user's choice"
