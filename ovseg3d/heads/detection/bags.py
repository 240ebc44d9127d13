"""Sums and means over groups of rows.

They are those of `index_add_`, in the same order, several times faster (measured on rooms of 150,000 points): rows are
read in the order of their groups, and no sum is read and written again for each of them.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Bags:
    """Groups of rows."""

    rows: Int[Tensor, " n"]
    """Of all groups, one group after the other."""
    sizes: Int[Tensor, " groups"]
    """Number of rows of each."""

    @classmethod
    def of(cls, group: Int[Tensor, " n"], count: int) -> "Bags":
        """Each row of a table is in one group; rows of a group keep their order.

        Args:
            group: of each row, from 0.
            count: of groups.
        """
        # Radix sort takes half as long for half as many bits.
        return cls(group.int().argsort(stable=True), torch.bincount(group, minlength=count))

    @property
    def starts(self) -> Int[Tensor, " groups"]:
        """Where in `rows` each begins."""
        return self.sizes.cumsum(0) - self.sizes

    def sums(
        self, values: Float[Tensor, "rows columns"], weight: Float[Tensor, " n"] | None = None
    ) -> Float[Tensor, "groups columns"]:
        """Of each group; 0 for one without rows.

        Args:
            values: the table.
            weight: of each of `rows`; None: 1.
        """
        return F.embedding_bag(self.rows, values, self.starts, mode="sum", per_sample_weights=weight)

    def means(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "groups columns"]:
        """Of each group; 0 for one without rows."""
        return F.embedding_bag(self.rows, values, self.starts, mode="mean")
