"""The field's operators in plain torch: slow, readable, and what the kernels are held to."""

from ovseg3d.field.reference.backend import TorchBackend

__all__ = ["TorchBackend"]
