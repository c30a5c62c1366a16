"""The bags of a run as row numbers into one table of cells.

Shapes: V views, N cells of the cohort, D features, B bags.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from aml_mil.mil.engine.table import Table, make_table
from aml_mil.mil.sampling import EpochDraw, IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class BagRows:
    """Bags as row numbers into the resident table.

    Attributes:
        rows: Row of every cell, bag after bag, [sum of sizes].
        sizes: Cells of each bag, [n], each at least 1.
        targets: Class of each bag, [n].
    """

    rows: IntArray
    sizes: IntArray
    targets: IntArray

    def take(self, first: int, last: int) -> "BagRows":
        """Return the bags ``first`` to ``last``, the last excluded; none past the end."""
        cuts = np.concatenate([[0], np.cumsum(self.sizes)])
        start, stop = cuts[min(first, len(self.sizes))], cuts[min(last, len(self.sizes))]
        return BagRows(
            rows=self.rows[start:stop],
            sizes=self.sizes[first:last],
            targets=self.targets[first:last],
        )


class ResidentBags:
    """Hold the features of one or several stores as one table of cells, store after store.

    Args:
        features: One array per store, each [V, N, D] or [V, N, D, H, W], cells in the same order.
        offsets: First cell of each bag and, last, the number of cells, [B + 1].
        targets: Class of each bag, [B].
        dtype: Number format of the large matrix products' operands.
        device: Where they are computed.
        one_view_a_bag: Whether all cells of a training bag come from the same view.

    Attributes:
        table: The cells.
        sizes: Cells of each bag, [B].
        targets: Class of each bag, [B].
        num_views: V.
        one_view_a_bag: As given.
    """

    def __init__(
        self,
        features: Sequence[npt.NDArray[Any]],
        *,
        offsets: IntArray,
        targets: IntArray,
        dtype: torch.dtype,
        device: torch.device,
        one_view_a_bag: bool = False,
    ) -> None:
        self.one_view_a_bag = one_view_a_bag
        self.num_views, self._num_cells = features[0].shape[:2]
        self.offsets = offsets
        self.sizes: IntArray = np.diff(offsets)
        self.targets = targets
        self.table: Table = make_table(features, dtype=dtype, device=device)

    def drawn(self, draw: EpochDraw, *, store: int) -> BagRows:
        """Return the rows of one epoch's draws from one store."""
        first = np.repeat(self.offsets[draw.bags], draw.sizes)
        rows = (store * self.num_views + draw.views) * self._num_cells + first + draw.cells
        return BagRows(rows=rows, sizes=draw.sizes, targets=self.targets[draw.bags])

    def whole(self, bags: IntArray, *, store: int) -> BagRows:
        """Return every cell of some bags in the identity view."""
        sizes = self.sizes[bags]
        within = np.arange(int(sizes.sum())) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        first = np.repeat(self.offsets[bags], sizes)
        rows = store * self.num_views * self._num_cells + first + within
        return BagRows(rows=rows, sizes=sizes, targets=self.targets[bags])
