"""The folder of one bag: how it is written at once, and read back only as it was written."""

import errno
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores import files
from stores.arrays import ArrayEntry, ArrayValue, array_sha256, crc32c, spec_of
from stores.commit_record import (
    BAG_FILE,
    CommitRecord,
    FileEntry,
    decode_record,
    describe,
    encode_record,
)
from stores.documents import MAX_DOCUMENT_BYTES, DocumentError
from stores.errors import InvalidBagError
from stores.schema import Bag, Manifest

MAX_OVERHEAD_BYTES = 2**20
DAMAGE_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO, errno.ENXIO)


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayPlace:
    """File, offset and number of bytes of an array."""

    path: str
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BagImage:
    """The files of a bag before they are written.

    Attributes:
        files: Bytes by path inside the bag's folder, ``bag.json`` left out.
        places: Where each array lies.
    """

    files: Mapping[str, bytes | memoryview]
    places: Mapping[str, ArrayPlace]


def commit_contents(
    bag: Bag, arrays: Mapping[str, ArrayValue], image: BagImage, manifest: Manifest
) -> dict[str, bytes | memoryview]:
    """Complete the files of a bag by the ``bag.json`` that describes them.

    Raises:
        InvalidBagError: ``bag.json`` would be longer than any reader takes.
    """
    entries = {}
    for name, value in arrays.items():
        place = image.places[name]
        data = np.frombuffer(image.files[place.path], dtype=np.uint8)
        entries[name] = ArrayEntry(
            spec=spec_of(value),
            sha256=array_sha256(value),
            crc32c=crc32c(data[place.offset : place.offset + place.nbytes]),
            offset=place.offset,
            nbytes=place.nbytes,
        )
    hashes = {
        path: FileEntry(nbytes=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in image.files.items()
    }
    identity = manifest.identity_sha256
    record = describe(bag, arrays=entries, files=hashes, identity_sha256=identity)
    try:
        return {**image.files, BAG_FILE: encode_record(record)}
    except ValueError as error:
        raise InvalidBagError(bag.bag_id, f"{BAG_FILE}: {error}") from error


def commit_folder(
    folder: Path, contents: Mapping[str, bytes | memoryview], *, staging: Path, replace: bool
) -> None:
    """Write a bag's folder under ``staging`` and rename it into its place.

    Raises:
        FileExistsError: the place is taken by a folder with content.
        OSError: nothing was committed, unless it is the last sync that failed.
    """
    files.make_dir(staging)
    staged = staging / files.stage_name()
    try:
        _write_folder(staged, contents)
        if replace and folder.is_dir():
            take_away(folder, staging=staging)
        files.move_dir(staged, folder)
    except BaseException:
        files.remove_dir(staged)
        raise
    files.sync_dir(folder.parent)


def take_away(folder: Path, *, staging: Path) -> None:
    """Make a bag's folder disappear at once, then free its space."""
    files.make_dir(staging)
    staged = staging / files.stage_name()
    files.move_dir(folder, staged)
    files.sync_dir(folder.parent)
    files.remove_dir(staged)


def _write_folder(folder: Path, contents: Mapping[str, bytes | memoryview]) -> None:
    """Write and sync a new folder with all its files; ``bag.json`` comes last."""
    files.make_dir(folder)
    folders = {folder}
    for path in sorted(contents, key=lambda path: (path == BAG_FILE, path)):
        target = folder / path
        for parent in reversed(target.relative_to(folder).parents[:-1]):
            if folder / parent not in folders:
                files.make_dir(folder / parent)
                folders.add(folder / parent)
        files.durable_write(target, contents[path])
    for written in sorted(folders, reverse=True):
        files.sync_dir(written)


def read_record(folder: Path, manifest: Manifest) -> tuple[CommitRecord, bytes]:
    """Read ``bag.json``; the bytes are returned beside what they say.

    Raises:
        DocumentError: missing, damaged, or not of this store.
    """
    data = _read(folder, BAG_FILE, max_bytes=MAX_DOCUMENT_BYTES).tobytes()
    try:
        return decode_record(data, manifest), data
    except DocumentError as error:
        raise DocumentError(f"{BAG_FILE}: {error}") from error


def read_files(folder: Path, record: CommitRecord) -> dict[str, NDArray[np.uint8]]:
    """Read every file of a bag and compare it with its hash; see ``check_files``."""
    return check_files(record, lambda path, max_bytes: _read(folder, path, max_bytes=max_bytes))


def check_files(
    record: CommitRecord, read: Callable[[str, int], NDArray[np.uint8]]
) -> dict[str, NDArray[np.uint8]]:
    """Read every file of a bag and compare it with its hash.

    Args:
        record: Says which files there are.
        read: Takes a path inside the bag and how many bytes it may have.

    Raises:
        DocumentError: a file is missing or not the one that was committed.
    """
    contents = {}
    most = sum(array.nbytes for array in record.arrays.values()) + MAX_OVERHEAD_BYTES
    for path, entry in record.files.items():
        if entry.nbytes > most:
            raise DocumentError(f"{path} claims {entry.nbytes} bytes, its arrays at most {most}")
        data = read(path, entry.nbytes)
        if len(data) != entry.nbytes:
            raise DocumentError(f"{path} has {len(data)} bytes, {entry.nbytes} were committed")
        if hashlib.sha256(data.data).hexdigest() != entry.sha256:
            raise DocumentError(f"{path} is not what was committed (its SHA-256 differs)")
        contents[path] = data
    return contents


def _read(folder: Path, path: str, *, max_bytes: int) -> NDArray[np.uint8]:
    try:
        return files.read_bytes(folder / path, max_bytes=max_bytes)
    except ValueError as error:
        raise DocumentError(f"{path}: {error}") from error
    except OSError as error:
        if error.errno in DAMAGE_ERRNOS:
            raise DocumentError(f"{path} cannot be read ({error.strerror})") from error
        raise


def slice_bytes(data: NDArray[np.uint8], entry: ArrayEntry, name: str) -> NDArray[np.uint8]:
    """Cut the bytes of one array out of its file.

    Raises:
        DocumentError: the place lies outside the file.
    """
    if entry.offset + entry.nbytes > len(data):
        raise DocumentError(f"{name} lies outside its file")
    return data[entry.offset : entry.offset + entry.nbytes]
