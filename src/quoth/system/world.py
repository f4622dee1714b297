"""Who else is training: one process is a world of size 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class World:
    """This process's rank among `size` equals.

    >>> World().sum(3.0)
    tensor(3., dtype=torch.float64)
    """

    rank: int = 0
    size: int = 1

    def sum(self, value: Tensor | float) -> Tensor:
        """The value summed over all processes, in at least its own precision; the same tensor on each."""
        total = value.clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
        if self.size > 1:
            dist.all_reduce(total)
        return total
