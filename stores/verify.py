"""Check a whole store, several bags at once, and go on after a damaged one."""

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from stores.arrays import array_sha256, crc32c, spec_of
from stores.bag_folder import slice_bytes
from stores.base import FeatureStore
from stores.errors import BagDamagedError, BagNotFoundError
from stores.names import encode_bag_id

LIBRARY_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError)
MAX_THREADS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRecord:
    """The result for one bag: ``error`` is None where it is intact.

    An empty ``bag_id`` stands for the files around the bags.
    """

    bag_id: str
    error: str | None


def verify_store(store: FeatureStore, *, num_threads: int | None = None) -> Iterator[VerifyRecord]:
    """Read every bag twice, directly and by the library of the format, and compare all hashes.

    Args:
        store: What to check.
        num_threads: Bags that are checked, and held in memory, at once; None = one per processor,
            at most 8.

    Yields:
        One record per bag, in the order of the ids; before them one with an empty id if the files
        around the bags, which only other readers need, are damaged.

    Raises:
        ValueError: ``num_threads`` is not positive.
        StoreVersionError: a newer release wrote a bag.
    """
    if num_threads is None:
        num_threads = min(MAX_THREADS, os.cpu_count() or 1)
    if num_threads < 1:
        raise ValueError(f"num_threads must be at least 1, got {num_threads}")
    frame_error = store.frame_error()
    if frame_error is not None:
        yield VerifyRecord(bag_id="", error=frame_error)
    bag_ids = store.bag_ids
    one_by_one = (_verify(store, bag_id) for bag_id in bag_ids)
    records = one_by_one if num_threads == 1 else _verify_ahead(store, bag_ids, num_threads)
    yield from (record for record in records if record is not None)


def _verify_ahead(
    store: FeatureStore, bag_ids: Sequence[str], num_threads: int
) -> Iterator[VerifyRecord | None]:
    """Check in threads, never further ahead of the caller than there are threads."""
    under_way: deque[Future[VerifyRecord | None]] = deque()
    with ThreadPoolExecutor(num_threads, thread_name_prefix="verify") as pool:
        try:
            for bag_id in bag_ids:
                under_way.append(pool.submit(_verify, store, bag_id))
                if len(under_way) > num_threads:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _verify(store: FeatureStore, bag_id: str) -> VerifyRecord | None:
    """Check one bag; None if it was deleted since it was listed."""
    try:
        verify_bag(store, bag_id)
    except BagNotFoundError:
        return None
    except BagDamagedError as error:
        return VerifyRecord(bag_id=bag_id, error=error.reason)
    return VerifyRecord(bag_id=bag_id, error=None)


def verify_bag(store: FeatureStore, bag_id: str) -> None:
    """Check one bag: its files, its arrays, and that the library of the format agrees.

    Raises:
        BagNotFoundError: no such bag.
        BagDamagedError: something about the bag is not as it was committed.
    """
    record, contents = store.read_files(bag_id)
    arrays = store.decode(bag_id, record, contents)
    folder_name = encode_bag_id(record.bag.bag_id)
    for name, entry in record.arrays.items():
        file = store.layout.array_file(folder_name, name, entry.spec)
        data = slice_bytes(contents[file], entry, name)
        if array_sha256(arrays[name]) != entry.sha256 or crc32c(data) != entry.crc32c:
            raise BagDamagedError(bag_id, store.path, f"{name} does not hash as recorded")
    try:
        library = store.layout.library_arrays(record, contents)
        found = {name: (spec_of(value), array_sha256(value)) for name, value in library.items()}
    except LIBRARY_ERRORS as error:
        reason = f"the {store.format} library cannot read it ({error})"
        raise BagDamagedError(bag_id, store.path, reason) from error
    if found != {name: (entry.spec, entry.sha256) for name, entry in record.arrays.items()}:
        reason = f"the {store.format} library reads other values"
        raise BagDamagedError(bag_id, store.path, reason)
