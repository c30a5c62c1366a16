"""Check a whole store, bag by bag, and go on after a damaged one."""

from collections.abc import Iterator
from dataclasses import dataclass

from stores.arrays import array_sha256, crc32c, spec_of
from stores.bag_folder import slice_bytes
from stores.base import FeatureStore
from stores.errors import BagDamagedError, BagNotFoundError
from stores.names import encode_bag_id

LIBRARY_ERRORS = (OSError, ValueError, TypeError, KeyError, RuntimeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyRecord:
    """The result for one bag: ``error`` is None where it is intact.

    An empty ``bag_id`` stands for the files around the bags.
    """

    bag_id: str
    error: str | None


def verify_store(store: FeatureStore) -> Iterator[VerifyRecord]:
    """Read every bag twice, directly and by the library of the format, and compare all hashes.

    Yields:
        One record per bag, in the order of the ids; before them one with an empty id if the files
        around the bags, which only other readers need, are damaged.
    """
    frame_error = store.frame_error()
    if frame_error is not None:
        yield VerifyRecord(bag_id="", error=frame_error)
    for bag_id in store.bag_ids:
        try:
            verify_bag(store, bag_id)
        except BagNotFoundError:
            continue  # deleted since it was listed
        except BagDamagedError as error:
            yield VerifyRecord(bag_id=bag_id, error=error.reason)
        else:
            yield VerifyRecord(bag_id=bag_id, error=None)


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
        data = slice_bytes(contents[store.array_file(folder_name, name, entry.spec)], entry, name)
        if array_sha256(arrays[name]) != entry.sha256 or crc32c(data) != entry.crc32c:
            raise BagDamagedError(bag_id, store.path, f"{name} does not hash as recorded")
    try:
        library = store.library_arrays(folder_name, contents)
        found = {name: (spec_of(value), array_sha256(value)) for name, value in library.items()}
    except LIBRARY_ERRORS as error:
        reason = f"the {store.format} library cannot read it ({error})"
        raise BagDamagedError(bag_id, store.path, reason) from error
    if found != {name: (entry.spec, entry.sha256) for name, entry in record.arrays.items()}:
        reason = f"the {store.format} library reads other values"
        raise BagDamagedError(bag_id, store.path, reason)
