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
        """Rows of a group keep their order.

        Args:
            group: of each row of a table, from 0; -1 for none.
            count: of groups.
        """
        sizes = torch.bincount(group + 1, minlength=count + 1)
        # Radix sort takes half as long for half as many bits.
        return cls(group.int().argsort(stable=True)[int(sizes[0]) :], sizes[1:])

    @property
    def starts(self) -> Int[Tensor, " groups"]:
        """Where in `rows` each begins."""
        return self.sizes.cumsum(0) - self.sizes

    def sums(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "groups columns"]:
        """Of the table's values in each group; 0 for one without rows."""
        return F.embedding_bag(self.rows, values, self.starts, mode="sum")

    def means(self, values: Float[Tensor, "rows columns"]) -> Float[Tensor, "groups columns"]:
        """Of the table's values in each group; 0 for one without rows."""
        # The mode "mean" takes twice as long.
        return self.sums(values).div_(self.sizes.clamp(min=1)[:, None])
