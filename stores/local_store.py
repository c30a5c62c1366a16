"""A store in a folder: ``manifest.json``, ``bags/<encoded id>/``, ``log.jsonl`` and ``.tmp/``.

A bag is written and synced under ``.tmp/``, and committed by renaming its folder into ``bags/``;
readers look at ``bags/`` only, so a bag is there completely or not at all.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores import files
from stores.arrays import num_bytes
from stores.bag_folder import commit_folder, read_files, read_record, take_away
from stores.base import FeatureStore
from stores.brief import Brief, read_brief, read_fields
from stores.commit_record import CommitRecord
from stores.direct import read_into
from stores.documents import JSON, DocumentError
from stores.errors import StoreDamagedError
from stores.log import append_event, read_events
from stores.place import BAGS_DIR
from stores.schema import ArraySpec, Manifest

STAGING_DIR = ".tmp"
LOG_FILE = "log.jsonl"


class LocalStore(FeatureStore):
    """A store in a folder, where counting and packing read no more of a bag than they need.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        super().__init__(path, manifest)
        self._bags_path = path / BAGS_DIR
        self._staging_path = path / STAGING_DIR
        self._identity_sha256 = manifest.identity_sha256  # once: it is spelled anew each time

    def bag_path(self, bag_id: str) -> Path:
        """Return the folder of a committed bag; BagNotFoundError where there is none."""
        return self._bags_path / self._folder_name(bag_id)

    def log(self, event: Mapping[str, JSON]) -> None:
        """Append an event with time and host to the store's log, which no reader depends on."""
        append_event(self.path / LOG_FILE, event)

    def read_log(self) -> tuple[dict[str, JSON], ...]:
        """Read the log; a torn or damaged line comes back as ``{"unreadable": text}``."""
        return read_events(self.path / LOG_FILE)

    def briefs(self) -> Iterator[Brief]:
        """Count every committed bag, in the order of their folders' names; see ``FeatureStore``."""
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
        """Read arrays of numbers, checked by their CRC-32C where that is enough.

        See ``FeatureStore``.
        """
        folder_name = self._folder_name(bag_id)
        read = read_fields(
            f"{self._bags_path}/{folder_name}", folder_name, identity_sha256=self._identity_sha256
        )
        rest = {
            name: parts
            for name, parts in targets.items()
            if read is None or not self._read_directly(folder_name, read[0], name, parts)
        }
        if rest:
            super().read_numbers(bag_id, rest)  # slower, and says what is wrong

    def _read_directly(
        self,
        folder_name: str,
        fields: Mapping[str, Any],
        name: str,
        parts: Sequence[NDArray[np.uint8]],
    ) -> bool:
        try:
            entry = fields["arrays"][name]
            spec = ArraySpec(shape=tuple(entry["shape"]), dtype=entry["dtype"])
            if num_bytes(spec) != sum(len(part) for part in parts):
                return False
            path = self.layout.array_file(folder_name, name, spec)
            read_into(
                f"{self._bags_path}/{folder_name}/{path}",
                file_nbytes=fields["files"][path]["nbytes"],
                offset=entry["offset"],
                crc32c=entry["crc32c"],
                targets=parts,
            )
        except (DocumentError, OSError, KeyError, TypeError):
            return False
        return True

    def _folder_names(self) -> list[str]:
        try:
            return [entry.name for entry in self._bags_path.iterdir() if entry.is_dir()]
        except FileNotFoundError as error:
            raise StoreDamagedError(self.path, f"the folder {BAGS_DIR}/ is missing") from error

    def _is_there(self, name: str) -> bool:
        return (self._bags_path / name).is_dir()

    def _is_taken(self, name: str) -> bool:
        folder = self._bags_path / name
        return folder.is_dir() and any(folder.iterdir())

    def _mark(self, name: str) -> object:
        return (self._bags_path / name).stat().st_ino

    def _read_record(self, name: str) -> tuple[CommitRecord, bytes]:
        return read_record(self._bags_path / name, self.manifest)

    def _read_contents(self, name: str, record: CommitRecord) -> dict[str, NDArray[np.uint8]]:
        return read_files(self._bags_path / name, record)

    def _put(self, name: str, contents: Mapping[str, bytes | memoryview], *, replace: bool) -> None:
        folder = self._bags_path / name
        commit_folder(folder, contents, staging=self._staging_path, replace=replace)

    def _take_away(self, name: str) -> None:
        take_away(self._bags_path / name, staging=self._staging_path)
