"""Choice of device and backend of a run, and why others are unavailable.

A backend computes the field: `warp` (kernels in NVIDIA Warp, compiled at run time, CPU and CUDA) or `tcnn`
(tinycudann's grid and networks, nerfacc's marching, all else as warp; CUDA only). `auto` is warp. A request
for an unavailable one raises DeviceError; nothing is replaced silently. `torch`, the reference that the kernels are
tested against, is available from Python only, not from flags or settings.
"""

import importlib.util
from dataclasses import dataclass
from typing import Literal

from ovseg3d.errors import DeviceError

DeviceName = Literal["auto", "cpu", "cuda"]
BackendName = Literal["auto", "warp", "tcnn"]
"""Backends for flags and settings."""
AnyBackend = Literal[BackendName, "torch"]
"""Backends for calls from Python."""


@dataclass(frozen=True)
class Availability:
    """Whether a device or backend is available, and the reason as a sentence."""

    name: str
    on: bool
    why: str


def cuda_status() -> Availability:
    """Whether torch can use a CUDA device."""
    import torch

    if torch.version.cuda is None:
        return Availability("cuda", False, "this torch is built for the CPU only")
    if not torch.cuda.is_available():
        return Availability("cuda", False, "torch is built for CUDA but finds no device or driver")
    name = torch.cuda.get_device_name(0)
    return Availability("cuda", True, f"{name}, CUDA {torch.version.cuda}")


def resolve_device(device: DeviceName) -> Literal["cpu", "cuda"]:
    """Resolve auto to cuda if available, else cpu.

    Raises:
        DeviceError: cuda was requested and is unavailable.
    """
    if device == "cpu":
        return "cpu"
    status = cuda_status()
    if device == "cuda" and not status.on:
        raise DeviceError(
            f"A GPU was requested (--device cuda), but {status.why}",
            fix="--device cpu, or see `ovseg3d doctor`",
        )
    return "cuda" if status.on else "cpu"


def backend_status(device: Literal["cpu", "cuda"]) -> tuple[Availability, ...]:
    """Availability on `device` of every backend of `BackendName` except auto."""
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
    """Resolve auto to warp, and check that the backend is available on `device`.

    Raises:
        DeviceError: the backend is unavailable.
    """
    name = "warp" if backend == "auto" else backend
    for status in backend_status(device):
        if status.name == name and not status.on:
            fix = "pip install warp-lang" if name == "warp" else "--backend warp"
            raise DeviceError(f"The backend {name} is off: {status.why}", fix=f"{fix}, or see `ovseg3d doctor`")
    return name
