"""Neighbours' numbers as a store can hold them: never narrower, never another value."""

from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.interchange.errors import SourceError
from stores.schema import FEATURE_DTYPES

WIDENED = {
    "bfloat16": "float32",
    "int8": "float32",
    "uint8": "float32",
    "int16": "float32",
    "uint16": "float32",
    "int32": "float64",
    "uint32": "float64",
}


def storage_dtype(dtype: str, *, place: str) -> str:
    """Name the type in which features of a source's type are stored without loss.

    Returns:
        The type itself for ``float16``, ``float32`` and ``float64``; ``float32`` for ``bfloat16``.

    Raises:
        SourceError: no type of a store holds every value of that type.
    """
    if dtype in FEATURE_DTYPES:
        return dtype
    if dtype in WIDENED:
        return WIDENED[dtype]
    raise SourceError(
        f"{place}: the features are {dtype}, expected {', '.join(FEATURE_DTYPES)} "
        "or integers of at most 32 bits"
    )


def widest(dtypes: Collection[str]) -> str:
    """Name the widest of some storage types."""
    return max(dtypes, key=FEATURE_DTYPES.index)


def finite_rows(features: NDArray[Any], views: NDArray[Any] | None) -> NDArray[np.bool_]:
    """Find the instances whose features are finite in every view: ``[N]``."""
    rows: NDArray[np.bool_] = np.isfinite(features.reshape(len(features), -1)).all(axis=1)
    if views is not None:
        rows &= np.isfinite(views.reshape(*views.shape[:2], -1)).all(axis=(0, 2))
    return rows


def coords_as_float32(coords: NDArray[Any], *, place: str) -> tuple[NDArray[np.float32], bool]:
    """Bring coords to the store's type, and say whether every one kept its value.

    Raises:
        SourceError: they are no numbers, or infinite.
    """
    if coords.dtype.kind not in "fiu":
        raise SourceError(f"{place}: coords are {coords.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        values = coords.astype(np.float32)
    if np.isinf(values).any():
        raise SourceError(f"{place}: coords are infinite or too large")
    return values, bool(np.array_equal(values, coords, equal_nan=coords.dtype.kind == "f"))
