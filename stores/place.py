"""Where the bags of a store are, under which names, and what a kind of place must be able to do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stores.commit_record import CommitRecord
from stores.documents import DocumentError
from stores.errors import BagNotFoundError
from stores.layout import BagLayout
from stores.names import LONG_NAME, decode_bag_id, encode_bag_id
from stores.schema import Manifest

BAGS_DIR = "bags"


class BagPlace(ABC):
    """The bags at a place, each in a folder whose name is its encoded id.

    The abstract methods are all that is asked of a folder or a URL; they take names of bags'
    folders, and know nothing of ids.
    """

    layout: ClassVar[BagLayout]

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._long_ids: dict[str, str] = {}

    @property
    def format(self) -> str:
        """Name of the format of its bags."""
        return self.layout.format

    @property
    def bag_ids(self) -> tuple[str, ...]:
        """The ids of all committed bags, sorted; listed anew at each access.

        A bag whose long id cannot be read any more is listed by the name of its folder.
        """
        ids = (self._id_of(name) for name in self._folder_names())
        return tuple(sorted(bag_id for bag_id in ids if bag_id is not None))

    def __len__(self) -> int:
        return len(self.bag_ids)

    def __contains__(self, bag_id: object) -> bool:
        try:
            return isinstance(bag_id, str) and bool(self._folder_name(bag_id))
        except BagNotFoundError:
            return False

    def _folder_name(self, bag_id: str) -> str:
        """Name the folder of a committed bag; BagNotFoundError where there is none."""
        try:
            names = [encode_bag_id(bag_id)]
        except ValueError as error:
            raise BagNotFoundError(bag_id, self.path) from error
        if LONG_NAME.fullmatch(bag_id):
            names.append(bag_id)
        for name in names:
            if self._is_there(name):
                return name
        raise BagNotFoundError(bag_id, self.path)

    def _id_of(self, name: str) -> str | None:
        try:
            bag_id = decode_bag_id(name)
        except ValueError:
            return None  # nothing of ours
        if bag_id is None and name not in self._long_ids:
            try:
                record, _ = self._read_record(name)
            except DocumentError:
                return name
            if encode_bag_id(record.bag.bag_id) != name:
                return name
            self._long_ids[name] = record.bag.bag_id
        return self._long_ids[name] if bag_id is None else bag_id

    @abstractmethod
    def _folder_names(self) -> list[str]:
        """List the folders of bags, and perhaps others."""

    @abstractmethod
    def _is_there(self, name: str) -> bool:
        """Say whether there is a bag, damaged or not."""

    @abstractmethod
    def _is_taken(self, name: str) -> bool:
        """Say whether a new bag has no room there."""

    @abstractmethod
    def _mark(self, name: str) -> object:
        """Return what another bag in this place would change."""

    @abstractmethod
    def _read_record(self, name: str) -> tuple[CommitRecord, bytes]:
        """Read ``bag.json``, and its bytes; DocumentError where it is damaged."""

    @abstractmethod
    def _read_contents(self, name: str, record: CommitRecord) -> dict[str, NDArray[np.uint8]]:
        """Read the other files, each checked; DocumentError where one is damaged."""

    @abstractmethod
    def _put(self, name: str, contents: Mapping[str, bytes | memoryview], *, replace: bool) -> None:
        """Put a bag there, its record last or all at once; FileExistsError where one is."""

    @abstractmethod
    def _take_away(self, name: str) -> None:
        """Remove a bag, its record first or all at once."""
