"""Say in what two stores differ, whatever their formats."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from stores.arrays import ArrayValue, spec_of
from stores.base import FeatureStore
from stores.errors import BagDamagedError, BagNotFoundError
from stores.manifest_file import identity_differences
from stores.schema import ArraySpec, BagRecord, Manifest

INFORMATION_FIELDS = ("weights", "numerics", "trained_on")
RECORD_FIELDS = ("label", "attributes", "quarantined", "fingerprint")

Side = Literal["both", "first", "second"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BagDiff:
    """What was found about one id.

    Attributes:
        where: The stores that have the bag.
        differences: One text each; empty where the bags are equal.
    """

    bag_id: str
    where: Side
    differences: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Both stores have the bag, and it is the same."""
        return self.where == "both" and not self.differences


def diff_manifests(first: Manifest, second: Manifest) -> dict[str, tuple[object, object]]:
    """Return both values of every field in which two manifests differ, identity fields first."""
    differences = identity_differences(first, second)
    for name in INFORMATION_FIELDS:
        old, new = getattr(first, name), getattr(second, name)
        if old != new:
            differences[name] = old, new
    return differences


def diff_stores(first: FeatureStore, second: FeatureStore) -> Iterator[BagDiff]:
    """Compare the bags of two stores; equal content in another format is equal.

    Bags are compared by their commit records, and read only where these differ. A store whose
    bytes may have decayed is checked by ``verify_store``.

    Yields:
        A record per id of either store, sorted.
    """
    ours, theirs = set(first.bag_ids), set(second.bag_ids)
    for bag_id in sorted(ours | theirs):
        if bag_id not in theirs:
            yield BagDiff(bag_id=bag_id, where="first", differences=())
        elif bag_id not in ours:
            yield BagDiff(bag_id=bag_id, where="second", differences=())
        else:
            try:
                differences = tuple(_differences(first, second, bag_id))
            except (BagDamagedError, BagNotFoundError) as error:
                differences = (str(error),)
            yield BagDiff(bag_id=bag_id, where="both", differences=differences)


def _differences(first: FeatureStore, second: FeatureStore, bag_id: str) -> Iterator[str]:
    old, new = first.record(bag_id), second.record(bag_id)
    for name in RECORD_FIELDS:
        if getattr(old, name) != getattr(new, name):
            yield f"{name}: {_brief(getattr(old, name))}, {_brief(getattr(new, name))}"
    if old.sha256 != new.sha256:
        yield from _array_differences(first, second, (old, new))


def _array_differences(
    first: FeatureStore, second: FeatureStore, records: tuple[BagRecord, BagRecord]
) -> Iterator[str]:
    old, new = records
    for name in sorted(old.arrays.keys() | new.arrays.keys()):
        if old.arrays.get(name) != new.arrays.get(name):
            yield f"{name}: {_show(old.arrays.get(name))}, {_show(new.arrays.get(name))}"
    bags = first.read(old.bag_id), second.read(old.bag_id)
    for name in old.arrays:
        if old.arrays[name] == new.arrays.get(name):
            yield from _value_differences(name, getattr(bags[0], name), getattr(bags[1], name))


def _value_differences(name: str, old: ArrayValue, new: ArrayValue) -> Iterator[str]:
    assert spec_of(old) == spec_of(new)
    if isinstance(old, tuple):
        rows = [row for row, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
        if rows:
            row = rows[0]
            yield f"{name}: {len(rows)} of {len(old)}, the first {old[row]!r}, {new[row]!r}"
        return
    assert isinstance(new, np.ndarray)
    differs = (old != new) & ~(np.isnan(old) & np.isnan(new))
    if differs.any():
        wide = np.abs(old[differs].astype(np.float64) - new[differs].astype(np.float64))
        most = "nan" if np.isnan(wide).any() else f"{wide.max():.3g}"
        yield f"{name}: {differs.sum()} of {differs.size} values, by at most {most}"
    elif old.tobytes() != new.tobytes():
        yield f"{name}: equal values in other bits (the sign of zero, or a NaN's)"


def _show(spec: ArraySpec | None) -> str:
    return "absent" if spec is None else f"{spec.dtype} {spec.shape}"


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
