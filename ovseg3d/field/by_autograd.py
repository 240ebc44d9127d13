"""Gradients of a grid whose `encode` autograd can differentiate, as `FieldBackend` declares them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from ovseg3d.engine import Workers


class EncodeByAutograd:
    """Adds the two gradients of `encode` to a backend; see `FieldBackend`."""

    def encode(
        self, x: Float[Tensor, "samples 3"], table: Float[Tensor, "entries features"]
    ) -> Float[Tensor, "samples dim"]:
        """Defined by the backend."""
        raise NotImplementedError

    def add_table_gradient(
        self,
        pieces: Sequence[tuple[Tensor, Tensor]],
        grad_table: Float[Tensor, "entries features"],
        workers: Workers | None = None,
    ) -> None:
        # The encoding is linear in the table, so its gradient does not depend on the table's values.
        table = torch.zeros_like(grad_table, requires_grad=True)
        with torch.enable_grad():
            for x, grad in pieces:
                grad_table += torch.autograd.grad(self.encode(x, table), table, grad)[0]

    def position_gradient(
        self,
        x: Float[Tensor, "samples 3"],
        table: Float[Tensor, "entries features"],
        grad: Float[Tensor, "samples dim"],
    ) -> Float[Tensor, "samples 3"]:
        leaf = x.detach().requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.encode(leaf, table), leaf, grad)[0]
