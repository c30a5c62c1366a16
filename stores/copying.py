"""Copy a store to another place or format, and merge stores of one encoder into one.

The new store appears under its name only when it is whole. Interrupted, the same call continues.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stores.base import FeatureStore
from stores.documents import JSON
from stores.errors import BagDamagedError, StoreError, StoreMismatchError
from stores.location import locate
from stores.manifest_file import check_same_identity
from stores.schema import BagRecord, Manifest
from stores.staged_store import staged_store
from stores.verify import verify_bag

MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyRecord:
    """A bag is in the new store, read back and found equal.

    Attributes:
        was_there: An interrupted call had copied it.
        bags_done: Including this one.
        bags_total: Of all sources.
    """

    bag_id: str
    num_instances: int
    was_there: bool
    bags_done: int
    bags_total: int


def copy_store(source: FeatureStore, path: Path | str) -> Iterator[CopyRecord]:
    """Copy every bag into a new store; each is verified when read and again when written.

    Args:
        source: What to copy; a bag damaged in it ends the copy.
        path: Of the new store; its suffix chooses the format.

    Yields:
        A record per bag.

    Raises:
        ValueError: the suffix names no format.
        StoreExistsError: there is something at the path already.
        BagDamagedError: a bag of the source is damaged, or the copy reads back otherwise.
    """
    return _fill(locate(path), source.manifest, {source.path: source}, event="copy")


def merge_stores(sources: Sequence[FeatureStore], path: Path | str) -> Iterator[CopyRecord]:
    """Bring the bags of disjoint cohorts, made by one encoder in one way, into a new store.

    Numerics that differ are recorded side by side. The ids the encoder was trained on are those
    that any source names; unknown if none names one and not all say that there are none.

    Args:
        sources: Stores of equal identity without a common id.
        path: Of the new store; its suffix chooses the format.

    Yields:
        A record per bag.

    Raises:
        ValueError: no sources, one given twice, or the suffix names no format.
        StoreMismatchError: sources made in different ways (both values are shown), or with ids in
            common (they are named).
        StoreExistsError: there is something at the path already.
        BagDamagedError: a bag of a source is damaged, or the copy reads back otherwise.
    """
    if not sources:
        raise ValueError("there is nothing to merge")
    by_path = {source.path.resolve(): source for source in sources}
    if len(by_path) != len(sources):
        raise ValueError("a store is given twice")
    first, *others = sources
    for other in others:
        check_same_identity(first.path, first.manifest, other.manifest, other_path=other.path)
    _refuse_common_ids(sources)
    return _fill(
        locate(path), merged_manifest([s.manifest for s in sources]), by_path, event="merge"
    )


def merged_manifest(manifests: Sequence[Manifest]) -> Manifest:
    """Combine manifests of equal identity; see ``merge_stores``."""
    numerics: list[JSON] = []
    for manifest in manifests:
        if manifest.numerics not in numerics:
            numerics.append(manifest.numerics)
    known = {bag_id for manifest in manifests for bag_id in manifest.trained_on or ()}
    is_unknown = not known and any(manifest.trained_on is None for manifest in manifests)
    only = manifests[0].numerics
    return replace(
        manifests[0],
        numerics=only if len(numerics) == 1 else {"merged": numerics},
        trained_on=None if is_unknown else tuple(sorted(known)),
    )


def _refuse_common_ids(sources: Sequence[FeatureStore]) -> None:
    counts = Counter(bag_id for source in sources for bag_id in source.bag_ids)
    common = sorted(bag_id for bag_id, count in counts.items() if count > 1)
    if common:
        shown = ", ".join(common[:MAX_NAMED]) + (", …" if len(common) > MAX_NAMED else "")
        raise StoreMismatchError(
            f"{len(common)} of {len(counts)} ids are in more than one store: {shown}; "
            "only disjoint cohorts can be merged"
        )


def _fill(
    path: Path, manifest: Manifest, sources: Mapping[Path, FeatureStore], *, event: str
) -> Iterator[CopyRecord]:
    wanted = [(source, bag_id) for source in sources.values() for bag_id in source.bag_ids]
    with staged_store(path, manifest, bag_ids=[bag_id for _, bag_id in wanted]) as target:
        for done, (source, bag_id) in enumerate(wanted, start=1):
            was_there, record = _put(source, target, bag_id)
            yield CopyRecord(
                bag_id=record.bag_id,
                num_instances=record.num_instances,
                was_there=was_there,
                bags_done=done,
                bags_total=len(wanted),
            )
        names: list[JSON] = [str(place) for place in sources]
        target.log({"event": event, "sources": names, "bags": len(wanted)})


def _put(source: FeatureStore, target: FeatureStore, bag_id: str) -> tuple[bool, BagRecord]:
    """Copy a bag unless an interrupted call did; return whether it did, and what is there."""
    expected = source.record(bag_id)
    if bag_id in target and _is_whole_copy(target, expected):
        return True, expected
    target.replace(source.read(bag_id))
    if not _is_whole_copy(target, source.record(bag_id)):
        raise BagDamagedError(bag_id, target.path, "it reads back other than it was copied")
    return False, expected


def _is_whole_copy(target: FeatureStore, expected: BagRecord) -> bool:
    try:
        verify_bag(target, expected.bag_id)
        return target.record(expected.bag_id) == expected
    except StoreError:
        return False
