"""Which device and which backend a run uses, and why the others are not on offer.

A backend does the field's heavy work: `warp` (kernels in NVIDIA Warp, compiled at run time, CPU and CUDA) or `tcnn`
(tinycudann's grid and networks, nerfacc's marching, all else as warp; CUDA only). `auto` is warp. Asking for what is
absent is a DeviceError; nothing is replaced silently. `torch`, the reference that tests hold the kernels to, is taken
from Python alone: neither flags nor settings name it.
"""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from ovseg3d.errors import DeviceError

DeviceName = Literal["auto", "cpu", "cuda"]
BackendName = Literal["auto", "warp", "tcnn"]
"""What a user may ask for."""
AnyBackend = Literal[BackendName, "torch"]
"""What Python may ask for."""


@dataclass(frozen=True)
class Availability:
    """Whether something can be used here, and why or why not, as a sentence."""

    name: str
    on: bool
    why: str


def cuda_status() -> Availability:
    """Whether torch can use a CUDA device."""
    import torch

    if torch.version.cuda is None:
        return Availability("cuda", False, "this torch is built for the CPU only")
    if not torch.cuda.is_available():
        return Availability("cuda", False, "torch is built for CUDA, but finds no device or driver")
    name = torch.cuda.get_device_name(0)
    return Availability("cuda", True, f"{name}, CUDA {torch.version.cuda}")


def resolve_device(device: DeviceName) -> Literal["cpu", "cuda"]:
    """The device meant by `device`; auto is cuda where there is one.

    Raises:
        DeviceError: cuda was asked for and there is none.
    """
    if device == "cpu":
        return "cpu"
    status = cuda_status()
    if device == "cuda" and not status.on:
        raise DeviceError(
            f"A GPU was asked for (--device cuda), but {status.why}",
            fix="--device cpu, or see `ovseg3d doctor`",
        )
    return "cuda" if status.on else "cpu"


def backend_status(device: Literal["cpu", "cuda"]) -> tuple[Availability, ...]:
    """Every backend that a user may ask for, with whether it can be used on `device` and why."""
    return _warp_status(), _tcnn_status(device)


def _warp_status() -> Availability:
    if importlib.util.find_spec("warp") is None:
        return Availability("warp", False, "the package warp-lang is not installed")
    return Availability("warp", True, "kernels compiled at run time, for CPU and CUDA")


def _tcnn_status(device: str) -> Availability:
    there = {name: importlib.util.find_spec(name) is not None for name in ("tinycudann", "nerfacc")}
    why = ", ".join(f"{name} is {'installed' if found else 'not installed'}" for name, found in there.items())
    if device != "cuda":
        return Availability("tcnn", False, f"needs a CUDA device; {why}")
    return Availability("tcnn", all(there.values()), why)


def resolve_backend(backend: AnyBackend, device: Literal["cpu", "cuda"]) -> Literal["warp", "torch", "tcnn"]:
    """The backend meant by `backend` on `device`; auto is warp.

    Raises:
        DeviceError: the backend cannot be used here.
    """
    name = "warp" if backend == "auto" else backend
    for status in backend_status(device):
        if status.name == name and not status.on:
            fix = "pip install warp-lang" if name == "warp" else "--backend warp"
            raise DeviceError(f"The backend {name} is off: {status.why}", fix=f"{fix}, or see `ovseg3d doctor`")
    return name
