"""The contract every feature store keeps, whatever the format of its bags and the place it is at.

A bag is built whole in memory before anything of it is written, and every byte that is read is
compared with its commit record. ``LocalStore`` and ``UrlZarrStore`` say what that means at a place.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from stores import files
from stores.admission import admit
from stores.arrays import ArrayValue, array_bytes
from stores.bag_folder import commit_contents, slice_bytes
from stores.brief import Brief, brief_of
from stores.commit_record import BAG_FILE, CommitRecord
from stores.documents import JSON, DocumentError
from stores.errors import BagDamagedError, BagExistsError
from stores.names import encode_bag_id
from stores.place import BagPlace
from stores.schema import TEXT_ARRAYS, ArraySpec, Bag, BagRecord

MAX_READ_ATTEMPTS = 5


class FeatureStore(BagPlace):
    """Bags of instances with their features, all made in the one way the manifest states.

    Open or create one with ``open_store``, ``create_store`` or ``open_or_create_store``. Several
    processes may read and write one store at once; a bag is immutable until it is replaced.

    Attributes:
        path: Folder or URL of the store.
        manifest: How its features were made.
        layout: How its bags lie in files.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what the store holds open; a local store holds nothing between two calls."""

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
                    return record, self._read_contents(self._folder_name(bag_id), record)
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

    def read_numbers(self, bag_id: str, targets: Mapping[str, Sequence[NDArray[np.uint8]]]) -> None:
        """Read arrays of numbers to where they are wanted, checked.

        Args:
            bag_id: Of the bag.
            targets: For each array contiguous bytes to be filled in turn; together as long.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: the bag is not as it was committed, or not of that length.
        """
        record, contents = self.read_files(bag_id)
        arrays = self.decode(bag_id, record, contents)
        for name, parts in targets.items():
            data = array_bytes(arrays[name]) if name in arrays else b""
            if len(data) != sum(len(part) for part in parts):
                raise BagDamagedError(bag_id, self.path, "it was replaced while it was read")
            offset = 0
            for part in parts:
                part[:] = np.frombuffer(data, dtype=np.uint8)[offset : offset + len(part)]
                offset += len(part)

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
            self._take_away(self._folder_name(bag_id))

    @abstractmethod
    def log(self, event: Mapping[str, JSON]) -> None:
        """Append an event with time and host to the store's log, which no reader depends on."""

    @abstractmethod
    def read_log(self) -> tuple[dict[str, JSON], ...]:
        """Read the log; a torn or damaged line comes back as ``{"unreadable": text}``."""

    def briefs(self) -> Iterator[Brief]:
        """Count every committed bag.

        Raises:
            BagDamagedError: a ``bag.json`` is not the one that was committed.
        """
        yield from (self.brief(bag_id) for bag_id in self.bag_ids)

    def brief(self, bag_id: str) -> Brief:
        """Count one bag.

        Raises:
            BagNotFoundError: no such bag.
            BagDamagedError: ``bag.json`` is not the one that was committed.
        """
        record, data = self._load(bag_id)
        return brief_of(record, record_num_bytes=len(data))

    @abstractmethod
    def array_num_bytes(self, bag_id: str, specs: Mapping[str, ArraySpec]) -> int:
        """Sum the sizes of the files that hold some arrays of a bag, or of all its files."""

    @abstractmethod
    def frame_num_bytes(self) -> int:
        """Sum the sizes of all files but those of the bags."""

    @abstractmethod
    def num_bytes(self) -> int:
        """Sum the sizes of all files of the store."""

    def frame_error(self) -> str | None:
        """Say what is wrong with the files around the bags that only other readers need."""
        return None

    def _load(self, bag_id: str) -> tuple[CommitRecord, bytes]:
        error: DocumentError | None = None
        for _ in range(MAX_READ_ATTEMPTS):
            name = self._folder_name(bag_id)
            mark = self._mark(name)
            try:
                with files.noting(f"while reading {BAG_FILE} of bag {bag_id!r} of {self.path}"):
                    record, data = self._read_record(name)
                self._check_names(name, record)
                return record, data
            except DocumentError as damage:
                error = damage
            if self._mark(self._folder_name(bag_id)) == mark:
                break  # otherwise it was replaced meanwhile
        raise BagDamagedError(bag_id, self.path, str(error)) from error

    def _check_names(self, folder_name: str, record: CommitRecord) -> None:
        if encode_bag_id(record.bag.bag_id) != folder_name:
            raise DocumentError(f"{BAG_FILE} is that of bag {record.bag.bag_id!r}")
        if record.files.keys() != self.layout.bag_files(folder_name, record.bag.arrays):
            raise DocumentError(f"{BAG_FILE} names other files than a {self.format} bag has")

    def _commit(self, bag: Bag, *, replace: bool) -> None:
        arrays = admit(bag, self.manifest)
        name = encode_bag_id(bag.bag_id)
        if not replace and self._is_taken(name):
            raise BagExistsError(bag.bag_id, self.path)
        image = self.layout.build_image(name, arrays)
        contents = commit_contents(bag, arrays, image, self.manifest)
        with files.noting(f"while writing bag {bag.bag_id!r} to {self.path}"):
            try:
                self._put(name, contents, replace=replace)
            except FileExistsError as error:
                raise BagExistsError(bag.bag_id, self.path) from error
