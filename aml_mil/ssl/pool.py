"""The images of a pre-training run: found in a cohort, read once, kept in memory if they fit.

Shapes: N images, S pixels a side.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aml_mil.cohort import (
    ClassFolders,
    Cohort,
    DamagedImageError,
    decode_image,
    fit_image,
    read_class_folders,
    read_cohort,
    read_image_file,
)
from aml_mil.cohort.class_folders import holds_class_folders
from aml_mil.cohort.mll import find_metadata
from aml_mil.ssl.errors import PretrainError

logger = logging.getLogger(__name__)

READERS = 4
WINDOW = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSource:
    """One image file.

    Attributes:
        image_id: Patient and cell, or class and file, for messages.
        path: Where it lies.
        patient_id: "" where nobody knows it.
        cell_type: Expert's type; "" where there is none.
    """

    image_id: str
    path: Path
    patient_id: str
    cell_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolProgress:
    """Files read so far, and the file that was left out, if this one was."""

    files_done: int
    damaged: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImagePool:
    """The readable images of a run.

    Attributes:
        sources: Of each image.
        side_px: Of the images, fitted by the cohort's rule.
        trained_on: Patients whose images are in the pool, sorted; None where nobody knows them.
        damaged: File and reason of what was left out.
        resident: [N, S, S, 3] uint8; None if the images are read from the disk each time.
    """

    sources: tuple[ImageSource, ...]
    side_px: int
    trained_on: tuple[str, ...] | None
    damaged: tuple[tuple[str, str], ...]
    resident: NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.sources)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return one image, [S, S, 3]."""
        if self.resident is not None:
            image: NDArray[np.uint8] = self.resident[index]
            return image
        return _read(self.sources[index].path, self.side_px)


def find_sources(
    path: str | Path, *, patients: Collection[str] | None = None
) -> tuple[ImageSource, ...]:
    """List the images of a cohort, a table, or class folders.

    Args:
        path: Where they are.
        patients: Take these patients only; all when None.

    Returns:
        In the cohort's order.

    Raises:
        CohortError: There is nothing to read.
        PretrainError: Patients are asked for, but these are class folders.
    """
    source = Path(path)
    if source.is_dir() and not find_metadata(source) and holds_class_folders(source):
        if patients is not None:
            message = f"{source} holds class folders without patients; folds cannot be applied"
            raise PretrainError(message)
        folders = read_class_folders(source)
        if folders.skipped_files:
            logger.warning("%s: %d files are no images: skipped", source, folders.skipped_files)
        return _from_folders(folders)
    return _from_cohort(read_cohort(source), patients)


def _from_cohort(cohort: Cohort, patients: Collection[str] | None) -> tuple[ImageSource, ...]:
    return tuple(
        ImageSource(
            image_id=f"{patient.patient_id}/{cell.instance_id}",
            path=cell.path,
            patient_id=patient.patient_id,
            cell_type=cell.cell_type,
        )
        for patient in cohort.patients
        if patients is None or patient.patient_id in patients
        for cell in patient.cells
    )


def _from_folders(folders: ClassFolders) -> tuple[ImageSource, ...]:
    return tuple(
        ImageSource(image_id=image.image_id, path=image.path, patient_id="", cell_type=image.label)
        for image in folders.images
    )


class PoolReader:
    """Reads every file once: what cannot be decoded is left out and named.

    Args:
        sources: Files to read.
        side_px: Side to fit the images to.
        max_bytes: Images are kept in memory up to this size, and read again each time beyond.
    """

    def __init__(self, sources: Sequence[ImageSource], *, side_px: int, max_bytes: int) -> None:
        self.sources = tuple(sources)
        self.side_px = side_px
        self.is_resident = len(sources) * side_px * side_px * 3 <= max_bytes
        self._kept: list[ImageSource] = []
        self._damaged: list[tuple[str, str]] = []
        shape = (len(self.sources) if self.is_resident else 0, side_px, side_px, 3)
        self._images = np.empty(shape, dtype=np.uint8)

    def read(self) -> Iterator[PoolProgress]:
        """Read all files, in threads.

        Yields:
            A record for each file.
        """
        with ThreadPoolExecutor(READERS) as readers:
            files = iter(self.sources)
            while window := list(islice(files, WINDOW)):
                results = readers.map(self._try, window)
                for source, result in zip(window, results, strict=True):
                    damaged = self._take(source, result)
                    yield PoolProgress(
                        files_done=len(self._kept) + len(self._damaged), damaged=damaged
                    )

    def pool(self) -> ImagePool:
        """Return what was read."""
        patients = {source.patient_id for source in self._kept}
        return ImagePool(
            sources=tuple(self._kept),
            side_px=self.side_px,
            trained_on=None if "" in patients else tuple(sorted(patients)),
            damaged=tuple(self._damaged),
            resident=self._images[: len(self._kept)] if self.is_resident else None,
        )

    def _try(self, source: ImageSource) -> NDArray[np.uint8] | str:
        try:
            return _read(source.path, self.side_px)
        except DamagedImageError as error:
            return str(error)

    def _take(self, source: ImageSource, result: NDArray[np.uint8] | str) -> tuple[str, str] | None:
        if isinstance(result, str):
            self._damaged.append((source.image_id, result))
            return self._damaged[-1]
        if self.is_resident:
            self._images[len(self._kept)] = result
        self._kept.append(source)
        return None


def read_pool(sources: Sequence[ImageSource], *, side_px: int, max_bytes: int) -> ImagePool:
    """Read all files at once, see `PoolReader`."""
    reader = PoolReader(sources, side_px=side_px, max_bytes=max_bytes)
    for _ in reader.read():
        pass
    return reader.pool()


def only_labelled(sources: Sequence[ImageSource]) -> tuple[ImageSource, ...]:
    """Keep the images with a cell type."""
    return tuple(source for source in sources if source.cell_type)


def count_types(sources: Sequence[ImageSource]) -> Mapping[str, int]:
    """Count the images of each cell type, names sorted; those without are not counted."""
    names = [source.cell_type for source in sources if source.cell_type]
    return {name: names.count(name) for name in sorted(set(names))}


def _read(path: Path, side_px: int) -> NDArray[np.uint8]:
    return fit_image(decode_image(read_image_file(path)), side_px)
