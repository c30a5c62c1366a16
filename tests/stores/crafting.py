"""Bags an attacker wrote: every checksum is right, and the content is not ours."""

import hashlib
import io
from collections.abc import Callable
from typing import Any

import h5py
import numpy as np

from stores import FeatureStore
from stores.arrays import content_sha256, crc32c
from stores.commit_record import BAG_FILE, CommitRecord, FileEntry, encode_record


def changed(value: Any, **changes: Any) -> Any:
    """Copy a frozen dataclass without its checks."""
    return type(value)(**{name: getattr(value, name) for name in value.__slots__} | changes)


def forge(store: FeatureStore, bag_id: str, name: str, data: bytes) -> None:
    """Put a file into a bag and make ``bag.json`` vouch for it."""
    record, _ = store.read_files(bag_id)
    folder = store.bag_path(bag_id)
    (folder / name).write_bytes(data)
    entry = FileEntry(nbytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    publish(store, bag_id, changed(record, files={**record.files, name: entry}))


def forge_array(store: FeatureStore, bag_id: str, name: str, **changes: Any) -> None:
    """Make ``bag.json`` claim something else about an array, with hashes to match."""
    record, _ = store.read_files(bag_id)
    arrays = {**record.arrays, name: changed(record.arrays[name], **changes)}
    specs = {key: entry.spec for key, entry in arrays.items()}
    sha256 = content_sha256({key: (e.spec, e.sha256) for key, e in arrays.items()})
    bag = changed(record.bag, arrays=specs, sha256=sha256)
    publish(store, bag_id, changed(record, arrays=arrays, bag=bag))


def publish(store: FeatureStore, bag_id: str, record: CommitRecord) -> None:
    (store.bag_path(bag_id) / BAG_FILE).write_bytes(encode_record(record))


def forge_h5(store: FeatureStore, bag_id: str, change: Callable[[h5py.File], None]) -> None:
    """Change the HDF5 file of a bag; the places of the arrays it still has are recorded anew."""
    name = f"{store.bag_path(bag_id).name}.h5"
    image = io.BytesIO((store.bag_path(bag_id) / name).read_bytes())
    with h5py.File(image, "r+") as file:
        change(file)
    data = image.getvalue()
    record, _ = store.read_files(bag_id)
    forge(store, bag_id, name, data)
    content = np.frombuffer(data, np.uint8)
    for array, entry in record.arrays.items():
        part = content[entry.offset : entry.offset + entry.nbytes]
        forge_array(store, bag_id, array, crc32c=crc32c(part))
