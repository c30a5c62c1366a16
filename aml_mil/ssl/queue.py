"""Projections of earlier batches, so that a small batch can be balanced over many prototypes.

Shapes: Q rows in the queue, G global crops, D dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class ProjectionQueue(nn.Module):
    """The newest Q projections of each global crop; part of the state.

    Args:
        length: Q, above 0.
        num_crops: G.
        num_dimensions: D.

    Attributes:
        rows: [G, Q, D], oldest first.
        num_filled: How many of the newest rows are filled.
    """

    rows: Tensor
    num_filled: Tensor

    def __init__(self, length: int, *, num_crops: int, num_dimensions: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(num_crops, length, num_dimensions))
        self.register_buffer("num_filled", torch.zeros((), dtype=torch.long))
        self._was_full = False

    @property
    def is_full(self) -> bool:
        """Whether the queue may be used: half-empty queues would be balanced over zeros."""
        if not self._was_full:  # a GPU is asked, and waited for, until then only
            self._was_full = int(self.num_filled) == self.rows.shape[1]
        return self._was_full

    @torch.no_grad()
    def push(self, projections: Sequence[Tensor]) -> None:
        """Append this batch's projections, [B, D] of each global crop; the oldest fall out."""
        length = self.rows.shape[1]
        new = torch.stack(list(projections)).to(self.rows)  # [G, B, D]
        self.rows.copy_(torch.cat([self.rows, new], 1)[:, -length:])
        self.num_filled.copy_((self.num_filled + new.shape[1]).clamp(max=length))
