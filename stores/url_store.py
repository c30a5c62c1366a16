"""A Zarr store at a URL: the same objects, but without renames.

``bag.json`` is put last and removed first: a bag is there when its record is. Two writers of one
bag are not kept apart. The log is an object per writer, since objects cannot be appended to.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stores import files
from stores.bag_folder import check_files
from stores.base import FeatureStore
from stores.commit_record import BAG_FILE, CommitRecord, decode_record
from stores.documents import JSON, MAX_DOCUMENT_BYTES, DocumentError
from stores.errors import NotAStoreError
from stores.layout import BagLayout
from stores.log import read_lines, spell_event
from stores.manifest_file import (
    MANIFEST_FILE,
    check_same_identity,
    decode_manifest,
    encode_manifest,
)
from stores.place import BAGS_DIR
from stores.schema import ArraySpec, Manifest
from stores.url_folder import UrlFolder
from stores.zarr_layout import ZarrLayout, group_document

LOG_DIR = "log"
EVENTS_PER_OBJECT = 256


class UrlZarrStore(FeatureStore):
    """A store at a URL that fsspec knows; see ``FeatureStore``.

    Attributes:
        path: The URL.
    """

    layout: ClassVar[BagLayout] = ZarrLayout()

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest)
        self._folder = UrlFolder(path)
        self._events: list[bytes] = []
        self._writer = files.stage_name()
        self._num_logs = 0

    def __exit__(self, *_: object) -> None:
        """Close, unless the connection has just been given up: the error is raised as it is."""
        if not self._folder.is_cut:
            self.close()

    def close(self) -> None:
        """Put what is left of the log."""
        if self._events:
            self._num_logs += 1
            name = f"{LOG_DIR}/{self._writer}-{self._num_logs:06d}.jsonl"
            self._folder.put({name: b"\n".join(self._events) + b"\n"})
            self._events = []

    def log(self, event: Mapping[str, JSON]) -> None:
        """Keep an event for the store's log; a process that is killed loses the last of them."""
        self._events.append(spell_event(event))
        if len(self._events) >= EVENTS_PER_OBJECT:
            self.close()

    def read_log(self) -> tuple[dict[str, JSON], ...]:
        """Read the log of all writers, in the order of time."""
        names = sorted(self._folder.sizes(LOG_DIR))
        read = [self._folder.read(name, max_bytes=MAX_DOCUMENT_BYTES).tobytes() for name in names]
        kept = b"\n".join(self._events)
        events = [event for data in [*read, kept] for event in read_lines(data)]
        return tuple(sorted(events, key=lambda event: str(event.get("time", ""))))

    def array_num_bytes(self, bag_id: str, specs: Mapping[str, ArraySpec]) -> int:
        """Sum the sizes of the objects of a bag."""
        return sum(self._folder.sizes(f"{BAGS_DIR}/{self._folder_name(bag_id)}").values())

    def frame_num_bytes(self) -> int:
        """Sum the sizes of all objects but those of the bags."""
        sizes = self._folder.sizes()
        return sum(size for name, size in sizes.items() if name.count("/") < 2)

    def num_bytes(self) -> int:
        """Sum the sizes of all objects."""
        return sum(self._folder.sizes().values())

    def _folder_names(self) -> list[str]:
        marks = [name.split("/") for name in self._folder.sizes(BAGS_DIR)]
        return [parts[1] for parts in marks if len(parts) == 3 and parts[2] == BAG_FILE]

    def _is_there(self, name: str) -> bool:
        return self._folder.exists(f"{BAGS_DIR}/{name}/{BAG_FILE}")

    def _is_taken(self, name: str) -> bool:
        return self._is_there(name)

    def _mark(self, name: str) -> object:
        return None  # a record is one object, which is put whole: there is nothing to wait for

    def _read_record(self, name: str) -> tuple[CommitRecord, bytes]:
        data = self._read(name, BAG_FILE, MAX_DOCUMENT_BYTES).tobytes()
        try:
            return decode_record(data, self.manifest), data
        except DocumentError as error:
            raise DocumentError(f"{BAG_FILE}: {error}") from error

    def _read_contents(self, name: str, record: CommitRecord) -> dict[str, NDArray[np.uint8]]:
        return check_files(record, partial(self._read, name))

    def _read(self, name: str, file: str, max_bytes: int) -> NDArray[np.uint8]:
        try:
            return self._folder.read(f"{BAGS_DIR}/{name}/{file}", max_bytes=max_bytes)
        except (FileNotFoundError, IsADirectoryError, ValueError) as error:
            raise DocumentError(f"{file} cannot be read ({error})") from error

    def _put(self, name: str, contents: Mapping[str, bytes | memoryview], *, replace: bool) -> None:
        if replace and self._is_there(name):
            self._take_away(name)
        objects = {f"{BAGS_DIR}/{name}/{path}": data for path, data in contents.items()}
        last = f"{BAGS_DIR}/{name}/{BAG_FILE}"
        record = objects.pop(last)
        self._folder.put(objects)
        self._folder.put({last: record})

    def _take_away(self, name: str) -> None:
        objects = self._folder.sizes(f"{BAGS_DIR}/{name}")
        self._folder.remove(sorted(objects, key=lambda each: (not each.endswith(BAG_FILE), each)))


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
