"""The contract every feature store keeps, whatever the format of its bags.

A store is a folder: ``manifest.json``, ``bags/<encoded id>/``, ``log.jsonl`` and ``.tmp/``. A bag
is built whole in memory, written and synced under ``.tmp/``, and committed by renaming its folder
into ``bags/``; readers look at ``bags/`` only, so a bag is there completely or not at all.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from stores import files
from stores.admission import admit
from stores.arrays import ArrayValue, array_bytes, num_bytes
from stores.bag_folder import (
    commit_contents,
    commit_folder,
    read_files,
    read_record,
    slice_bytes,
    take_away,
)
from stores.brief import Brief, read_brief, read_fields
from stores.commit_record import BAG_FILE, CommitRecord
from stores.direct import read_into
from stores.documents import JSON, DocumentError
from stores.errors import BagDamagedError, BagExistsError, BagNotFoundError, StoreDamagedError
from stores.layout import BagLayout
from stores.log import append_event, read_events
from stores.names import LONG_NAME, decode_bag_id, encode_bag_id
from stores.schema import COLOUR, TEXT_ARRAYS, ArraySpec, Bag, BagRecord, Manifest

BAGS_DIR = "bags"
STAGING_DIR = ".tmp"
LOG_FILE = "log.jsonl"
MAX_READ_ATTEMPTS = 5


class FeatureStore:
    """Bags of instances with their features, all made in the one way the manifest states.

    Open or create one with ``open_store``, ``create_store`` or ``open_or_create_store``. Several
    processes may read and write one store at once; a bag is immutable until it is replaced.

    Attributes:
        path: Folder of the store.
        manifest: How its features were made.
    """

    layout: ClassVar[BagLayout]

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._long_ids: dict[str, str] = {}
        self._identity_sha256 = manifest.identity_sha256  # once: it is spelled anew each time

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the store holds open; a local store holds nothing between two calls."""

    @property
    def format(self) -> str:
        """Name of the format of its bags."""
        return self.layout.format

    @property
    def bag_ids(self) -> tuple[str, ...]:
        """The ids of all committed bags, sorted; listed anew at each access.

        A bag whose long id cannot be read any more is listed by the name of its folder.
        """
        try:
            names = [entry.name for entry in self._bags_path.iterdir() if entry.is_dir()]
        except FileNotFoundError as error:
            raise StoreDamagedError(self.path, f"the folder {BAGS_DIR}/ is missing") from error
        ids = (self._id_of(name) for name in names)
        return tuple(sorted(bag_id for bag_id in ids if bag_id is not None))

    def __len__(self) -> int:
        return len(self.bag_ids)

    def __contains__(self, bag_id: object) -> bool:
        if not isinstance(bag_id, str):
            return False
        try:
            self.bag_path(bag_id)
        except BagNotFoundError:
            return False
        return True

    def record(self, bag_id: str) -> BagRecord:
        """Read what ``bag.json`` says about a bag, without its arrays.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: ``bag.json`` is not the one that was committed.
        """
        return self._load(bag_id)[0].bag

    def read(self, bag_id: str) -> Bag:
        """Read a bag and check every byte of it against ``bag.json``.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: any file of the bag is not the one that was committed.
        """
        record, contents = self.read_files(bag_id)
        bag = record.bag
        values: dict[str, Any] = dict(self.decode(bag_id, record, contents))
        return Bag(
            bag_id=bag.bag_id,
            label=bag.label,
            attributes=bag.attributes,
            quarantined=bag.quarantined,
            fingerprint=bag.fingerprint,
            **values,
        )

    def read_files(self, bag_id: str) -> tuple[CommitRecord, dict[str, NDArray[np.uint8]]]:
        """Read the commit record of a bag and its files as bytes, each checked by its hash.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: any file of the bag is not the one that was committed.
        """
        error: DocumentError | None = None
        for _ in range(MAX_READ_ATTEMPTS):
            record, seen = self._load(bag_id)
            try:
                with files.noting(f"while reading bag {bag_id!r} of {self.path}"):
                    return record, read_files(self.bag_path(bag_id), record)
            except DocumentError as damage:
                error = damage
            if self._load(bag_id)[1] == seen:
                break  # otherwise it was replaced meanwhile: read it anew
        raise BagDamagedError(bag_id, self.path, str(error)) from error

    def decode(
        self, bag_id: str, record: CommitRecord, contents: Mapping[str, NDArray[np.uint8]]
    ) -> dict[str, ArrayValue]:
        """Take the arrays out of files that ``read_files`` returned, without a copy."""
        folder_name = encode_bag_id(record.bag.bag_id)
        arrays: dict[str, ArrayValue] = {}
        try:
            for name, entry in record.arrays.items():
                path = self.layout.array_file(folder_name, name, entry.spec)
                data = slice_bytes(contents[path], entry, name)
                if name in TEXT_ARRAYS:
                    text = self.layout.decode_stored_texts(data.tobytes(), record.bag.num_instances)
                    arrays[name] = text
                    continue
                dtype = np.dtype(entry.spec.dtype)
                values = data.view(dtype.newbyteorder("<")).reshape(entry.spec.shape)
                arrays[name] = np.require(values, dtype=dtype, requirements=["A", "C", "W"])
        except ValueError as error:
            raise BagDamagedError(bag_id, self.path, f"{name}: {error}") from error
        return arrays

    def write(self, bag: Bag) -> None:
        """Commit a bag: afterwards it is there completely, and survives a loss of power.

        Raises:
            BagExistsError: the id was committed before; the first commit wins.
            InvalidBagError: a rule of the schema is broken, e.g. a feature is not finite.
            StoreMismatchError: shape, dtype or views are not the store's.
            OSError: the disk is full, read-only, …; nothing was committed, unless it was the
                very last sync that failed: then the bag is there, but may not survive a power loss.
        """
        self._commit(bag, replace=False)

    def replace(self, bag: Bag) -> None:
        """Commit a bag in place of the one of its id; killed in between, the bag is absent.

        Raises:
            BagExistsError: another writer committed the id in the same moment.
            InvalidBagError: as ``write``; the old bag stays.
            StoreMismatchError: as ``write``; the old bag stays.
        """
        self._commit(bag, replace=True)

    def delete(self, bag_id: str) -> None:
        """Remove a bag, damaged or not; it is gone at once, its space a moment later.

        Raises:
            BagNotFoundError: no such bag.
        """
        with files.noting(f"while deleting bag {bag_id!r} of {self.path}"):
            take_away(self.bag_path(bag_id), staging=self._staging_path)

    def log(self, event: Mapping[str, JSON]) -> None:
        """Append an event with time and host to the store's log, which no reader depends on."""
        append_event(self.path / LOG_FILE, event)

    def read_log(self) -> tuple[dict[str, JSON], ...]:
        """Read the log; a torn or damaged line comes back as ``{"unreadable": text}``."""
        return read_events(self.path / LOG_FILE)

    def briefs(self) -> Iterator[Brief]:
        """Count every committed bag, in the order of their folders' names.

        Raises:
            BagDamagedError: a ``bag.json`` is not the one that was committed.
        """
        identity = self._identity_sha256
        with os.scandir(self._bags_path) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        for name in names:
            folder = f"{self._bags_path}/{name}"
            brief = read_brief(folder, name, identity_sha256=identity)
            if brief is not None:
                yield brief
            elif (bag_id := self._id_of(name)) is not None:
                yield self.brief(bag_id)

    def brief(self, bag_id: str) -> Brief:
        """Count one bag.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: ``bag.json`` is not the one that was committed.
        """
        record, data = self._load(bag_id)
        return Brief(
            record.bag.bag_id,
            record.bag.num_instances,
            record.bag.label,
            len(record.bag.quarantined),
            COLOUR in record.arrays,
            len(data) + sum(entry.nbytes for entry in record.files.values()),
        )

    def array_num_bytes(self, bag_id: str, specs: Mapping[str, ArraySpec]) -> int:
        """Sum the sizes of the files that hold some arrays of a bag; 0 where they are not."""
        folder = self.bag_path(bag_id)
        paths = {self.layout.array_file(folder.name, name, spec) for name, spec in specs.items()}
        try:
            return sum((folder / path).stat().st_size for path in paths)
        except OSError:
            return 0

    def frame_num_bytes(self) -> int:
        """Sum the sizes of all files but those of the bags."""
        folders = (self.path, self._bags_path)
        plain = [entry for folder in folders for entry in os.scandir(folder) if entry.is_file()]
        total = sum(entry.stat().st_size for entry in plain)
        return total + files.tree_bytes(self._staging_path)

    def num_bytes(self) -> int:
        """Sum the sizes of all files of the store."""
        return files.tree_bytes(self.path)

    def read_numbers(self, bag_id: str, targets: Mapping[str, Sequence[NDArray[np.uint8]]]) -> None:
        """Read arrays of numbers to where they are wanted, checked by their CRC-32C.

        Args:
            bag_id: Of the bag.
            targets: For each array contiguous bytes to be filled in turn; together as long.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: the bag is not as it was committed, or not of that length.
        """
        folder = str(self.bag_path(bag_id))
        name = folder.rpartition("/")[2]
        read = read_fields(folder, name, identity_sha256=self._identity_sha256)
        for name, parts in targets.items():
            if read is None or not self._read_directly(folder, read[0], name, parts):
                self._copy_numbers(bag_id, name, parts)  # slower, and says what is wrong

    def _read_directly(
        self,
        folder: str,
        fields: Mapping[str, Any],
        name: str,
        parts: Sequence[NDArray[np.uint8]],
    ) -> bool:
        try:
            entry = fields["arrays"][name]
            spec = ArraySpec(shape=tuple(entry["shape"]), dtype=entry["dtype"])
            if num_bytes(spec) != sum(len(part) for part in parts):
                return False
            path = self.layout.array_file(folder.rpartition("/")[2], name, spec)
            read_into(
                f"{folder}/{path}",
                file_nbytes=fields["files"][path]["nbytes"],
                offset=entry["offset"],
                crc32c=entry["crc32c"],
                targets=parts,
            )
        except (DocumentError, OSError, KeyError, TypeError):
            return False
        return True

    def _copy_numbers(self, bag_id: str, name: str, parts: Sequence[NDArray[np.uint8]]) -> None:
        record, contents = self.read_files(bag_id)
        if name not in record.arrays:
            raise BagDamagedError(bag_id, self.path, "it was replaced while it was read")
        data = array_bytes(self.decode(bag_id, record, contents)[name])
        if len(data) != sum(len(part) for part in parts):
            raise BagDamagedError(bag_id, self.path, "it was replaced while it was read")
        offset = 0
        for part in parts:
            part[:] = np.frombuffer(data, dtype=np.uint8)[offset : offset + len(part)]
            offset += len(part)

    def frame_error(self) -> str | None:
        """Say what is wrong with the files around the bags that only other readers need."""
        return None

    @property
    def _bags_path(self) -> Path:
        return self.path / BAGS_DIR

    @property
    def _staging_path(self) -> Path:
        return self.path / STAGING_DIR

    def _id_of(self, name: str) -> str | None:
        try:
            bag_id = decode_bag_id(name)
        except ValueError:
            return None  # nothing of ours
        if bag_id is None and name not in self._long_ids:
            try:
                record, _ = read_record(self._bags_path / name, self.manifest)
            except DocumentError:
                return name
            if encode_bag_id(record.bag.bag_id) != name:
                return name
            self._long_ids[name] = record.bag.bag_id
        return self._long_ids[name] if bag_id is None else bag_id

    def bag_path(self, bag_id: str) -> Path:
        """Return the folder of a committed bag; BagNotFoundError where there is none."""
        try:
            folder = self._bags_path / encode_bag_id(bag_id)
        except ValueError as error:
            raise BagNotFoundError(bag_id, self.path) from error
        if not folder.is_dir() and LONG_NAME.fullmatch(bag_id):
            folder = self._bags_path / bag_id
        if not folder.is_dir():
            raise BagNotFoundError(bag_id, self.path)
        return folder

    def _load(self, bag_id: str) -> tuple[CommitRecord, bytes]:
        error: DocumentError | None = None
        for _ in range(MAX_READ_ATTEMPTS):
            folder = self.bag_path(bag_id)
            inode = folder.stat().st_ino
            try:
                with files.noting(f"while reading {BAG_FILE} of bag {bag_id!r} of {self.path}"):
                    record, data = read_record(folder, self.manifest)
                self._check_names(folder.name, record)
                return record, data
            except DocumentError as damage:
                error = damage
            if self.bag_path(bag_id).stat().st_ino == inode:
                break  # otherwise it was replaced meanwhile
        raise BagDamagedError(bag_id, self.path, str(error)) from error

    def _check_names(self, folder_name: str, record: CommitRecord) -> None:
        if encode_bag_id(record.bag.bag_id) != folder_name:
            raise DocumentError(f"{BAG_FILE} is that of bag {record.bag.bag_id!r}")
        if record.files.keys() != self.layout.bag_files(folder_name, record.bag.arrays):
            raise DocumentError(f"{BAG_FILE} names other files than a {self.layout.format} bag has")

    def _commit(self, bag: Bag, *, replace: bool) -> None:
        arrays = admit(bag, self.manifest)
        folder = self._bags_path / encode_bag_id(bag.bag_id)
        if not replace and folder.is_dir() and any(folder.iterdir()):
            raise BagExistsError(bag.bag_id, self.path)
        image = self.layout.build_image(folder.name, arrays)
        contents = commit_contents(bag, arrays, image, self.manifest)
        with files.noting(f"while writing bag {bag.bag_id!r} to {self.path}"):
            try:
                commit_folder(folder, contents, staging=self._staging_path, replace=replace)
            except FileExistsError as error:
                raise BagExistsError(bag.bag_id, self.path) from error
