"""The features of one patient as they come in: in memory once, in the type they are stored in.

V views, N cells of the patient, D… the shape of one image's features.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class FeatureRows:
    """Room for all cells of a patient, filled batch by batch.

    Args:
        capacity: Cells at most.
        dtype: Of the stored features; kept wider where they overflow it, so that the store names
            the cell.

    Attributes:
        num_rows: Cells so far.
    """

    def __init__(self, capacity: int, *, dtype: str) -> None:
        self.num_rows = 0
        self._capacity = capacity
        self._dtype = np.dtype(dtype)
        self._values: NDArray[Any] | None = None

    def add(self, features: NDArray[np.float32]) -> None:
        """Take in the next cells, [V, n, D…]."""
        num_views, num_new, *shape = features.shape
        if self._values is None:
            self._values = np.empty((num_views, self._capacity, *shape), dtype=self._dtype)
        with np.errstate(over="ignore"):
            stored = features.astype(self._values.dtype, copy=False)
        if not np.array_equal(np.isfinite(stored), np.isfinite(features)):
            self._values, stored = self._values.astype(features.dtype), features
        self._values[:, self.num_rows : self.num_rows + num_new] = stored
        self.num_rows += num_new

    @property
    def num_bytes(self) -> int:
        """What the room takes."""
        return 0 if self._values is None else self._values.nbytes

    @property
    def values(self) -> NDArray[Any]:
        """What came in, [V, N, D…]; where a cell was set aside, a view of the room."""
        assert self._values is not None
        return self._values[:, : self.num_rows]
