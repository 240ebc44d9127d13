"""The field's operators in plain torch: slow and readable; the kernels are tested against them."""

from ovseg3d.field.reference.backend import TorchBackend

__all__ = ["TorchBackend"]
