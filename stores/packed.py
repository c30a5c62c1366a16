"""A store in memory: all bags in one contiguous array, with offsets.

B bags, N instances of all bags, V views, D… the shape of one feature.
"""

import os
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from stores.arrays import num_bytes
from stores.base import FeatureStore
from stores.brief import Brief
from stores.errors import BagDamagedError
from stores.schema import COLOUR, COLOUR_CHANNELS, FEATURES, VIEWS, ArraySpec

MAX_THREADS = 8
BAGS_AHEAD = 1_024


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


def pack_bags(
    store: FeatureStore,
    bag_ids: Sequence[str] | None = None,
    *,
    max_memory_bytes: int | None = None,
) -> PackedBags:
    """Read bags, each checked, into one array.

    The bytes go from the disk to their place in the array. An array larger than what can be had
    of the memory lies in a file without a name, mapped, which is gone when the array is.

    Args:
        store: Where they are.
        bag_ids: Which, in this order; all of them if None.
        max_memory_bytes: From where on the features are mapped; four fifths of what can be had
            if None.

    Raises:
        BagNotFoundError: the store has no such bag.
        BagDamagedError: a bag is not as it was committed.
        ValueError: an id is given twice.
        OSError: there is neither memory nor disk for the features.
    """
    briefs = _find(store, bag_ids)
    ids = tuple(brief.bag_id for brief in briefs)
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum([brief.num_instances for brief in briefs], out=offsets[1:])
    manifest = store.manifest
    _check_claims(store, briefs)
    shape = (manifest.num_views, int(offsets[-1]), *manifest.feature_shape)
    features = _allocate(shape, np.dtype(manifest.dtype), max_memory_bytes)
    colour: NDArray[np.float32] | None = None
    if all(brief.has_colour for brief in briefs):
        colour = np.empty((int(offsets[-1]), COLOUR_CHANNELS), dtype=np.float32)

    def load(place: int) -> None:
        rows = slice(int(offsets[place]), int(offsets[place + 1]))
        targets = {FEATURES: [_bytes(features[0, rows])]}
        if manifest.num_views > 1:
            targets[VIEWS] = [_bytes(view[rows]) for view in features[1:]]
        if colour is not None:
            targets[COLOUR] = [_bytes(colour[rows])]
        store.read_numbers(ids[place], targets)

    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        for start in range(0, len(ids), BAGS_AHEAD):
            deque(pool.map(load, range(start, min(start + BAGS_AHEAD, len(ids)))), maxlen=0)
    return PackedBags(
        bag_ids=ids,
        labels=tuple(brief.label for brief in briefs),
        offsets=offsets,
        features=features,
        colour=colour,
    )


def _find(store: FeatureStore, bag_ids: Sequence[str] | None) -> list[Brief]:
    if bag_ids is None:
        return sorted(store.briefs(), key=lambda brief: brief.bag_id)
    if len(set(bag_ids)) != len(bag_ids):
        raise ValueError("a bag id is given twice")
    return [store.brief(bag_id) for bag_id in bag_ids]


def _allocate(
    shape: tuple[int, ...], dtype: np.dtype[Any], max_memory_bytes: int | None
) -> NDArray[Any]:
    nbytes = prod(shape) * dtype.itemsize
    if max_memory_bytes is None:
        max_memory_bytes = psutil.virtual_memory().available // 5 * 4
    if nbytes <= max_memory_bytes:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="aml-mil-packed-") as file:
        os.posix_fallocate(file.fileno(), 0, nbytes)  # a full disk is an error now, not later
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return values.reshape(-1).view(np.uint8)


def _check_claims(store: FeatureStore, briefs: Sequence[Brief]) -> None:
    """Refuse to allocate for a bag more than lies on the disk."""
    manifest = store.manifest
    for brief in briefs:
        shape = (brief.num_instances, *manifest.feature_shape)
        specs = {FEATURES: ArraySpec(shape=shape, dtype=manifest.dtype)}
        if manifest.num_views > 1:
            views = (manifest.num_views - 1, *shape)
            specs[VIEWS] = ArraySpec(shape=views, dtype=manifest.dtype)
        claimed = sum(num_bytes(spec) for spec in specs.values())
        found = store.array_num_bytes(brief.bag_id, specs)
        if claimed > found:
            reason = f"it claims {claimed} bytes of numbers, their files have {found}"
            raise BagDamagedError(brief.bag_id, store.path, reason)
