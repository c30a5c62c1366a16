"""A store in memory: all bags in one contiguous array, with offsets.

B bags, N instances of all bags, V views, D… the shape of one feature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.arrays import num_bytes
from stores.base import FeatureStore
from stores.errors import BagDamagedError
from stores.schema import COLOUR, COLOUR_CHANNELS, FEATURES, VIEWS, BagRecord

NUMBERS = (FEATURES, VIEWS, COLOUR)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PackedBags:
    """Bags one after the other.

    Attributes:
        bag_ids: B ids.
        labels: B labels, None where a bag has none.
        offsets: ``[B+1]`` int64; bag i has the instances ``offsets[i]:offsets[i + 1]``.
        features: ``[V, N, D…]`` in the store's dtype; view 0 is the untouched image.
        colour: ``[N, 6]`` float32; None unless every bag has it.
    """

    bag_ids: tuple[str, ...]
    labels: tuple[str | None, ...]
    offsets: NDArray[np.int64]
    features: NDArray[Any]
    colour: NDArray[np.float32] | None

    @property
    def num_bags(self) -> int:
        """Number of bags."""
        return len(self.bag_ids)

    @property
    def num_instances(self) -> int:
        """Number of instances of all bags."""
        return int(self.offsets[-1])

    def bag(self, index: int) -> slice:
        """Return the instances of a bag, for the second axis of ``features``."""
        if not 0 <= index < self.num_bags:
            raise IndexError(f"bag {index} of {self.num_bags}")
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))


def pack_bags(store: FeatureStore, bag_ids: Sequence[str] | None = None) -> PackedBags:
    """Read bags, each verified, into one array.

    Args:
        store: Where they are.
        bag_ids: Which, in this order; all of them if None.

    Raises:
        BagNotFoundError: the store has no such bag.
        BagDamagedError: a bag is not as it was committed.
        ValueError: an id is given twice.
    """
    ids = store.bag_ids if bag_ids is None else tuple(bag_ids)
    if len(set(ids)) != len(ids):
        raise ValueError("a bag id is given twice")
    records = [store.record(bag_id) for bag_id in ids]
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([record.num_instances for record in records], out=offsets[1:])
    manifest = store.manifest
    shape = (manifest.num_views, int(offsets[-1]), *manifest.feature_shape)
    _check_claims(store, records)
    features = np.empty(shape, dtype=manifest.dtype)
    colour: NDArray[np.float32] | None = None
    if all(COLOUR in record.arrays for record in records):
        colour = np.empty((int(offsets[-1]), COLOUR_CHANNELS), dtype=np.float32)
    for i, (bag_id, record) in enumerate(zip(ids, records, strict=True)):
        bag = store.read(bag_id)
        if len(bag.instance_ids) != record.num_instances:
            raise BagDamagedError(bag_id, store.path, "it was replaced while it was read")
        rows = slice(int(offsets[i]), int(offsets[i + 1]))
        features[0, rows] = bag.features
        if bag.views is not None:
            features[1:, rows] = bag.views
        if colour is not None:
            colour[rows] = bag.colour
    return PackedBags(
        bag_ids=ids,
        labels=tuple(record.label for record in records),
        offsets=offsets,
        features=features,
        colour=colour,
    )


def _check_claims(store: FeatureStore, records: Sequence[BagRecord]) -> None:
    """Refuse to allocate for a bag more than lies on the disk."""
    for record in records:
        claimed = sum(num_bytes(record.arrays[name]) for name in NUMBERS if name in record.arrays)
        found = store.bag_num_bytes(record.bag_id)
        if claimed > found:
            reason = f"it claims {claimed} bytes of numbers, its files have {found}"
            raise BagDamagedError(record.bag_id, store.path, reason)
