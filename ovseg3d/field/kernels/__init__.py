"""The field's kernels in NVIDIA Warp: one source, compiled at run time for the CPU or CUDA. No compiler needed."""

from ovseg3d.field.kernels.backend import WarpBackend

__all__ = ["WarpBackend"]
