"""How the arrays of a bag lie in its files, whatever the place that holds these files."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from stores.arrays import ArrayValue
from stores.bag_folder import BagImage
from stores.commit_record import CommitRecord
from stores.schema import ArraySpec


class BagLayout(ABC):
    """Turns arrays into the files of a bag, and names the place of each."""

    format: ClassVar[str]

    @abstractmethod
    def build_image(self, folder_name: str, arrays: Mapping[str, ArrayValue]) -> BagImage:
        """Build the files of a bag in memory, the same bytes for the same arrays."""

    @abstractmethod
    def array_file(self, folder_name: str, name: str, spec: ArraySpec) -> str:
        """Name the file inside the bag's folder that holds an array."""

    @abstractmethod
    def bag_files(self, folder_name: str, specs: Mapping[str, ArraySpec]) -> frozenset[str]:
        """Name all files inside the bag's folder but ``bag.json``."""

    @abstractmethod
    def decode_stored_texts(self, data: bytes, count: int) -> tuple[str, ...]:
        """Read texts from their bytes in the file; ValueError where they are none."""

    @abstractmethod
    def library_arrays(
        self, record: CommitRecord, contents: Mapping[str, NDArray[np.uint8]]
    ) -> dict[str, ArrayValue]:
        """Read the arrays of verified files by the library of the format.

        Raises:
            ValueError: they are not laid out as ``build_image`` does; by then nothing was read,
                so that a crafted file can neither ask for memory nor open other files.
        """
