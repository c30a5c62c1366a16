"""Bags of many replicates laid end to end, without padding between the bags of a replicate.

Shapes: R replicates, S bags of the replicate that has most, M cells of the replicate that has
most, rounded up to a multiple of 16, L cells of the longest bag, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aml_mil.mil.engine.layers import round_up
from aml_mil.mil.engine.resident import BagRows
from aml_mil.runtime import upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """The bags of one step, packed per replicate.

    Rows past a replicate's last cell repeat a real row; no bag contains them, so they carry no
    weight and no gradient.

    Attributes:
        rows: Row of each cell in the resident table, [R, M].
        bag_of: Bag of each cell within its replicate, [R, M].
        rank_of: Place of each cell within its bag, [R, M].
        inside: Whether the cell belongs to a bag, [R, M].
        starts: First cell of each bag, [R, S].
        sizes: Cells of each bag, 0 where the replicate has fewer than S bags, [R, S].
        targets: Class of each bag, [R, S].
        num_cells: Cells that belong to a bag, by replicate.
        longest: L.
    """

    rows: Tensor
    bag_of: Tensor
    rank_of: Tensor
    inside: Tensor
    starts: Tensor
    sizes: Tensor
    targets: Tensor
    num_cells: tuple[int, ...]
    longest: int

    @property
    def present(self) -> Tensor:
        """Whether there is a bag, [R, S]."""
        return self.sizes > 0


def pack(bags: Sequence[BagRows], *, device: torch.device) -> Packed:
    """Pack each replicate's bags end to end.

    Args:
        bags: The bags of each replicate, in the order of the stack.
        device: Where the index tensors go.
    """
    num_cells = round_up(max(len(b.rows) for b in bags))
    num_bags = max(len(b.sizes) for b in bags)
    rows = np.zeros((len(bags), num_cells), np.int64)
    bag_of, rank_of = np.zeros_like(rows), np.zeros_like(rows)
    inside = np.zeros_like(rows, dtype=bool)
    starts = np.zeros((len(bags), num_bags), np.int64)
    sizes, targets = np.zeros_like(starts), np.zeros_like(starts)
    for r, b in enumerate(bags):
        n, s = len(b.rows), len(b.sizes)
        begins = np.cumsum(b.sizes) - b.sizes
        rows[r, :n], rows[r, n:] = b.rows, b.rows[0] if n else 0
        bag_of[r, :n] = np.repeat(np.arange(s), b.sizes)
        rank_of[r, :n] = np.arange(n) - np.repeat(begins, b.sizes)
        inside[r, :n] = True
        starts[r, :s], sizes[r, :s], targets[r, :s] = begins, b.sizes, b.targets
    return Packed(
        rows=upload(rows, device),
        bag_of=upload(bag_of, device),
        rank_of=upload(rank_of, device),
        inside=upload(inside, device),
        starts=upload(starts, device),
        sizes=upload(sizes, device),
        targets=upload(targets, device),
        num_cells=tuple(len(b.rows) for b in bags),
        longest=int(sizes.max()),
    )
