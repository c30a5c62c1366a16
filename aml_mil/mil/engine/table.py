"""The features of a run as one table of cells, gathered from by row number.

Shapes: Q stores, V views, N cells of the cohort, D features, P positions of a cell (1 for vectors),
R replicates, M cells of a replicate; D' is D with a column of ones and zeros behind it, see
``layers``.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from aml_mil.mil.engine.layers import padded

MEMORY_SHARE = 0.5
"""Of a device's free memory, what a table may take that lies there."""


ROWS_AT_ONCE = 2**15
"""Brought to the device together, which takes as much memory once more."""


class Table(Protocol):
    """Cells by row number: view after view of store after store.

    Attributes:
        num_positions: P.
        width: D'.
        dtype: Number format of what is gathered.
        device: Where it is gathered to.
    """

    num_positions: int
    width: int
    dtype: torch.dtype
    device: torch.device

    def gather(self, rows: Tensor, *, out: Tensor) -> Tensor:
        """Write the cells of some rows, [R, M], into memory of [R, M * P, D']."""


class ResidentTable:
    """Hold all cells on the device, ready to be multiplied.

    Args:
        features: One array per store, each [V, N, D] or [V, N, D, H, W].
        dtype: Number format.
        device: Where it lies.
    """

    def __init__(
        self, features: Sequence[npt.NDArray[Any]], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        cells = [_by_row(array) for array in features]
        rows, num_features, self.num_positions = cells[0].shape
        self.width, self.dtype, self.device = padded(num_features), dtype, device
        shape = (len(cells) * rows, self.num_positions, self.width)
        self.cells = torch.zeros(shape, dtype=dtype, device=device)
        self.cells[:, :, num_features] = 1
        for q, source in enumerate(cells):
            target = self.cells[q * rows : (q + 1) * rows, :, :num_features]
            for first in range(0, rows, ROWS_AT_ONCE):
                part = slice(first, first + ROWS_AT_ONCE)
                target[part].copy_(torch.from_numpy(source[part]).mT)
        self._flat = self.cells.flatten(1)

    def gather(self, rows: Tensor, *, out: Tensor) -> Tensor:
        """Write the cells of some rows, [R, M], into memory of [R, M * P, D']."""
        torch.index_select(self._flat, 0, rows.reshape(-1), out=out.view(-1, self._flat.shape[1]))
        return out


class StreamedTable:
    """Leave the cells in the host's memory, as the store gave them, and bring those asked for.

    Args:
        features: As ``ResidentTable``'s.
        dtype: Number format of what is gathered.
        device: Where it is gathered to.
    """

    def __init__(
        self, features: Sequence[npt.NDArray[Any]], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._stores = [torch.from_numpy(_by_row(array)) for array in features]
        self._rows, self._num_features, self.num_positions = self._stores[0].shape
        self.width, self.dtype, self.device = padded(self._num_features), dtype, device

    def gather(self, rows: Tensor, *, out: Tensor) -> Tensor:
        """Write the cells of some rows, [R, M], into memory of [R, M * P, D']."""
        flat = rows.reshape(-1).cpu()
        target = out.view(len(flat), self.num_positions, self.width)
        for q, store in enumerate(self._stores):
            chosen = torch.nonzero(flat // self._rows == q).squeeze(1)
            cells = store.index_select(0, flat[chosen] - q * self._rows).to(self.device)
            target[chosen.to(self.device), :, : self._num_features] = cells.mT.to(self.dtype)
        target[:, :, self._num_features] = 1
        target[:, :, self._num_features + 1 :] = 0
        return out


def make_table(
    features: Sequence[npt.NDArray[Any]], *, dtype: torch.dtype, device: torch.device
) -> ResidentTable | StreamedTable:
    """Put the cells on the device, or leave them where they are if they are too many for it."""
    rows, num_features, num_positions = _by_row(features[0]).shape
    num_values = len(features) * rows * num_positions * padded(num_features)
    if num_values * dtype.itemsize > MEMORY_SHARE * memory_bytes(device):
        return StreamedTable(features, dtype=dtype, device=device)
    return ResidentTable(features, dtype=dtype, device=device)


def memory_bytes(device: torch.device) -> int:
    """Return how much memory of a GPU is free, or how much the machine has."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    return int(psutil.virtual_memory().total)


def _by_row(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return [V, N, D, …] as [V * N, D, P]."""
    return np.ascontiguousarray(array).reshape(array.shape[0] * array.shape[1], array.shape[2], -1)
