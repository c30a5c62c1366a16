"""A Zarr store at a URL: the same objects, but without renames.

``bag.json`` is put last and removed first: a bag is there when its record is. Two writers of one
bag are not kept apart. The log is an object per session, since objects cannot be appended to.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores import files
from stores.admission import admit
from stores.bag_folder import check_files, commit_contents
from stores.base import BAGS_DIR, MAX_READ_ATTEMPTS, FeatureStore
from stores.brief import Brief
from stores.commit_record import BAG_FILE, CommitRecord, decode_record
from stores.documents import JSON, MAX_DOCUMENT_BYTES, DocumentError
from stores.errors import BagDamagedError, BagExistsError, BagNotFoundError, NotAStoreError
from stores.log import read_lines, spell_event
from stores.manifest_file import (
    MANIFEST_FILE,
    check_same_identity,
    decode_manifest,
    encode_manifest,
)
from stores.names import LONG_NAME, encode_bag_id
from stores.schema import ArraySpec, Bag, Manifest
from stores.url_folder import UrlFolder
from stores.zarr_layout import group_document
from stores.zarr_store import ZarrStore

LOG_DIR = "log"
EVENTS_PER_OBJECT = 256


class UrlZarrStore(ZarrStore):
    """A store at a URL that fsspec knows; see ``FeatureStore``.

    Attributes:
        path: The URL.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest)
        self._folder = UrlFolder(path)
        self._events: list[bytes] = []
        self._session = files.stage_name()
        self._num_logs = 0

    def __exit__(self, *_: object) -> None:
        """Close, unless the connection has just been given up: the error is raised as it is."""
        if not self._folder.is_cut:
            self.close()

    def close(self) -> None:
        """Put what is left of the log."""
        if self._events:
            self._num_logs += 1
            name = f"{LOG_DIR}/{self._session}-{self._num_logs:06d}.jsonl"
            self._folder.put({name: b"\n".join(self._events) + b"\n"})
            self._events = []

    @property
    def bag_ids(self) -> tuple[str, ...]:
        """The ids of all committed bags, sorted; listed anew at each access."""
        ids = (self._id_of(name) for name in self._folder_names())
        return tuple(sorted(bag_id for bag_id in ids if bag_id is not None))

    def __contains__(self, bag_id: object) -> bool:
        try:
            return isinstance(bag_id, str) and bool(self._bag_name(bag_id))
        except BagNotFoundError:
            return False

    def read_files(self, bag_id: str) -> tuple[CommitRecord, dict[str, NDArray[np.uint8]]]:
        """Read the commit record of a bag and its objects as bytes, each checked by its hash."""
        error: DocumentError | None = None
        for _ in range(MAX_READ_ATTEMPTS):
            record, seen = self._load(bag_id)
            try:
                return record, check_files(record, partial(self._read, self._bag_name(bag_id)))
            except DocumentError as damage:
                error = damage
            if self._load(bag_id)[1] == seen:
                break  # otherwise it was replaced meanwhile: read it anew
        raise BagDamagedError(bag_id, self.path, str(error)) from error

    def delete(self, bag_id: str) -> None:
        """Remove a bag, damaged or not; its record goes first."""
        self._remove(self._bag_name(bag_id))

    def log(self, event: Mapping[str, JSON]) -> None:
        """Keep an event for the store's log; a process that is killed loses the last of them."""
        self._events.append(spell_event(event))
        if len(self._events) >= EVENTS_PER_OBJECT:
            self.close()

    def read_log(self) -> tuple[dict[str, JSON], ...]:
        """Read the log of all sessions, in the order of time."""
        names = sorted(self._folder.sizes(LOG_DIR))
        read = [self._folder.read(name, max_bytes=MAX_DOCUMENT_BYTES).tobytes() for name in names]
        kept = b"\n".join(self._events)
        events = [event for data in [*read, kept] for event in read_lines(data)]
        return tuple(sorted(events, key=lambda event: str(event.get("time", ""))))

    def frame_error(self) -> str | None:
        """Say nothing: what lies around the bags is for other readers."""
        return None

    def briefs(self) -> Iterator[Brief]:
        """Count every committed bag; a request each."""
        yield from (self.brief(bag_id) for bag_id in self.bag_ids)

    def array_num_bytes(self, bag_id: str, specs: Mapping[str, ArraySpec]) -> int:
        """Sum the sizes of the objects of a bag."""
        return sum(self._folder.sizes(self._bag_name(bag_id)).values())

    def frame_num_bytes(self) -> int:
        """Sum the sizes of all objects but those of the bags."""
        sizes = self._folder.sizes()
        return sum(size for name, size in sizes.items() if name.count("/") < 2)

    def read_numbers(self, bag_id: str, targets: Mapping[str, Sequence[NDArray[np.uint8]]]) -> None:
        """Read arrays of numbers to where they are wanted; see ``FeatureStore``."""
        for name, parts in targets.items():
            self._copy_numbers(bag_id, name, parts)

    def num_bytes(self) -> int:
        """Sum the sizes of all objects."""
        return sum(self._folder.sizes().values())

    def _folder_names(self) -> list[str]:
        marks = [name.split("/") for name in self._folder.sizes(BAGS_DIR)]
        return [parts[1] for parts in marks if len(parts) == 3 and parts[2] == BAG_FILE]

    def _bag_name(self, bag_id: str) -> str:
        """Name the folder of a committed bag; BagNotFoundError where there is none."""
        try:
            names = [encode_bag_id(bag_id)]
        except ValueError as error:
            raise BagNotFoundError(bag_id, self.path) from error
        if LONG_NAME.fullmatch(bag_id):
            names.append(bag_id)
        for name in names:
            if self._folder.exists(f"{BAGS_DIR}/{name}/{BAG_FILE}"):
                return f"{BAGS_DIR}/{name}"
        raise BagNotFoundError(bag_id, self.path)

    def _id_of(self, name: str) -> str | None:
        if not LONG_NAME.fullmatch(name):
            return super()._id_of(name)
        if name not in self._long_ids:
            try:
                record, _ = self._decode(f"{BAGS_DIR}/{name}")
            except DocumentError:
                return name
            self._long_ids[name] = record.bag.bag_id
        return self._long_ids[name]

    def _load(self, bag_id: str) -> tuple[CommitRecord, bytes]:
        name = self._bag_name(bag_id)
        try:
            return self._decode(name)
        except DocumentError as error:
            raise BagDamagedError(bag_id, self.path, str(error)) from error

    def _decode(self, name: str) -> tuple[CommitRecord, bytes]:
        data = self._read(name, BAG_FILE, MAX_DOCUMENT_BYTES).tobytes()
        try:
            record = decode_record(data, self.manifest)
        except DocumentError as error:
            raise DocumentError(f"{BAG_FILE}: {error}") from error
        self._check_names(name.rpartition("/")[2], record)
        return record, data

    def _read(self, folder: str, name: str, max_bytes: int) -> NDArray[np.uint8]:
        try:
            return self._folder.read(f"{folder}/{name}", max_bytes=max_bytes)
        except (FileNotFoundError, IsADirectoryError, ValueError) as error:
            raise DocumentError(f"{name} cannot be read ({error})") from error

    def _remove(self, folder: str) -> None:
        names = sorted(
            self._folder.sizes(folder), key=lambda name: (not name.endswith(BAG_FILE), name)
        )
        self._folder.remove(names)

    def _commit(self, bag: Bag, *, replace: bool) -> None:
        arrays = admit(bag, self.manifest)
        name = encode_bag_id(bag.bag_id)
        folder = f"{BAGS_DIR}/{name}"
        is_there = self._folder.exists(f"{folder}/{BAG_FILE}")
        if is_there and not replace:
            raise BagExistsError(bag.bag_id, self.path)
        image = self.layout.build_image(name, arrays)
        contents = commit_contents(bag, arrays, image, self.manifest)
        if is_there:
            self._remove(folder)
        last = contents.pop(BAG_FILE)
        with files.noting(f"while writing bag {bag.bag_id!r} to {self.path}"):
            self._folder.put({f"{folder}/{path}": data for path, data in contents.items()})
            self._folder.put({f"{folder}/{BAG_FILE}": last})


def open_url_store(url: Path) -> FeatureStore:
    """Open a store at a URL; see ``open_store``."""
    try:
        data = UrlFolder(url).read(MANIFEST_FILE, max_bytes=MAX_DOCUMENT_BYTES)
    except FileNotFoundError as error:
        raise NotAStoreError(
            f"{url} is no feature store (no {MANIFEST_FILE} in it); check the URL"
        ) from error
    manifest, _ = decode_manifest(data.tobytes(), url)
    return UrlZarrStore(url, manifest)


def create_url_store(url: Path, manifest: Manifest) -> FeatureStore:
    """Create a store at a URL, or open one made in the same way; see ``create_store``."""
    if url.suffix != ".zarr":
        raise ValueError(f"a store at a URL ends in .zarr, got {url.name!r}")
    folder = UrlFolder(url)
    if not folder.exists(MANIFEST_FILE):
        known = {name.split("/")[0] for name in _frame()}
        foreign = sorted({name.split("/")[0] for name in folder.sizes()} - known)
        if foreign:
            raise NotAStoreError(
                f"{url} is no feature store, but holds {', '.join(foreign[:5])} "
                f"({len(foreign)} entries); choose another name"
            )
        folder.put(_frame())
        folder.put_new(MANIFEST_FILE, encode_manifest(manifest, UrlZarrStore.layout.format))
    store = open_url_store(url)
    check_same_identity(url, store.manifest, manifest)
    return store


def _frame() -> dict[str, bytes]:
    """The groups around the bags, for other readers."""
    document = group_document()
    return {"zarr.json": document, f"{BAGS_DIR}/zarr.json": document}
