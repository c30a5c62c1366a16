"""What all exporters share: file names, and the few ways targets are narrower.

N instances, D features.
"""

import csv
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.base import FeatureStore
from stores.interchange.errors import ExportError
from stores.names import encode_bag_id
from stores.schema import (
    COLOUR,
    COORDS,
    INSTANCE_IDS,
    INSTANCE_LABELS,
    SMEAR,
    VIEWS,
    Bag,
)

PLAIN_NAME = re.compile(r"[^/\\\0.][^/\\\0]*")
MAX_NAME_BYTES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedBag:
    """A bag is written.

    Attributes:
        notes: What the target could not hold, or had to be made up.
    """

    bag_id: str
    num_instances: int
    notes: tuple[str, ...] = ()


def check_vectors(store: FeatureStore, target: str) -> None:
    """Refuse maps where the target holds vectors.

    Raises:
        ExportError: the store holds maps.
    """
    shape = store.manifest.feature_shape
    if len(shape) != 1:
        raise ExportError(
            f"{target} holds vectors, {store.path} has maps of shape {shape}; "
            "export to bags or anndata"
        )


def file_names(store: FeatureStore) -> dict[str, str]:
    """Give each bag the name of its file: its id, percent-encoded only where it is no file name.

    Raises:
        ExportError: the store has no bags, or two ids would share a name.
    """
    names: dict[str, str] = {}
    for bag_id in store.bag_ids:
        is_plain = PLAIN_NAME.fullmatch(bag_id) and len(bag_id.encode()) <= MAX_NAME_BYTES
        names[bag_id] = bag_id if is_plain else encode_bag_id(bag_id)
    if not names:
        raise ExportError(f"{store.path} has no bags; nothing to export")
    if len(set(names.values())) != len(names):
        raise ExportError(f"{store.path} has ids that need the same file name")
    return names


def left_out(
    bag: Bag,
    *,
    name: str | None = None,
    holds: Collection[str] = (),
    attributes: Collection[str] = (),
) -> list[str]:
    """Start a bag's notes with what the target does not hold.

    Args:
        bag: What is exported.
        name: Of its file, where that stands for its id; None where the id is kept.
        holds: Optional arrays the target has.
        attributes: Those of the bag's attributes the target has.
    """
    names = [
        array
        for array in (VIEWS, COLOUR, INSTANCE_LABELS, SMEAR, COORDS)
        if getattr(bag, array) is not None and array not in holds
    ]
    if INSTANCE_IDS not in holds and bag.instance_ids != tuple(map(str, range(len(bag.features)))):
        names.append(INSTANCE_IDS)
    if bag.attributes.keys() - set(attributes):
        names.append("attributes")
    if bag.quarantined:
        names.append("the list of quarantined files")
    notes = [f"left out: {', '.join(names)}"] if names else []
    if name not in (None, bag.bag_id):
        notes.append(f"its id cannot name a file: written as {name}")
    return notes


def float32_features(bag: Bag, notes: list[str]) -> NDArray[np.float32]:
    """Bring features to float32, noting whether every value is kept.

    Raises:
        ExportError: a value is too large.
    """
    if bag.features.dtype == np.float32:
        return bag.features
    with np.errstate(over="ignore"):
        values = bag.features.astype(np.float32)
    if not np.isfinite(values).all():
        raise ExportError(f"bag {bag.bag_id!r} holds features too large for float32")
    exact = np.array_equal(values, bag.features)
    how = "widened" if values.itemsize > bag.features.itemsize else "narrowed"
    kept = "every value is kept" if exact else "values are rounded"
    notes.append(f"features {how} from {bag.features.dtype} to float32, {kept}")
    return values


def integer_coords(bag: Bag, dtype: np.dtype[Any], notes: list[str]) -> NDArray[Any]:
    """Bring coords to integers ``[N, 2]``; zeros where there are none.

    Raises:
        ExportError: a coordinate is too large.
    """
    if bag.coords is None:
        notes.append("no coords: zeros written")
        return np.zeros((len(bag.features), 2), dtype=dtype)
    missing = np.isnan(bag.coords)
    if missing.any():
        notes.append("instances without coords: zeros written")
    rounded = np.rint(np.where(missing, 0, bag.coords)).astype(np.float64)
    if np.abs(rounded).max() >= float(np.iinfo(dtype).max):
        raise ExportError(f"bag {bag.bag_id!r} has coords too large for {dtype}")
    if not np.array_equal(rounded, np.where(missing, 0, bag.coords)):
        notes.append("coords rounded to whole numbers")
    return rounded.astype(dtype)


def write_csv(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Write a table in UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
