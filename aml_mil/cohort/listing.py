"""Find image files below a folder, in natural order, and count what is passed over."""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from natsort import natsort_keygen, ns

from aml_mil.cohort.errors import LayoutError, name_some
from aml_mil.cohort.images import IMAGE_SUFFIXES
from aml_mil.cohort.patients import Cell

_natural_path = natsort_keygen(alg=ns.PATH)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Files below one folder.

    Attributes:
        cells: Images, in natural order of their path below the folder.
        skipped: Paths of hidden files and files that are no images.
    """

    cells: tuple[Cell, ...]
    skipped: tuple[str, ...]


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for a cell: an image's suffix, and not hidden."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def sort_naturally(paths: Iterable[str]) -> list[str]:
    """Sort so that image_2 comes before image_10; ties by their characters."""
    return sorted(sorted(paths), key=_natural_path)


def same_name(name: str) -> str:
    """Bring a name to the form in which file systems and tables can be compared."""
    return unicodedata.normalize("NFC", name)


def list_cells(folder: Path) -> Listing:
    """List the images of one patient, over all folders below.

    Args:
        folder: The patient's folder; what lies deeper is a smear.

    Raises:
        LayoutError: A file name cannot be written as UTF-8.
    """
    found: list[str] = []
    skipped: list[str] = []
    for relative in _walk(folder, seen=set()):
        hidden = any(part.startswith(".") for part in relative.parts)
        is_cell = not hidden and is_image_name(relative.name)
        (found if is_cell else skipped).append(relative.as_posix())
    _refuse_undecodable(folder, found)
    cells = tuple(
        Cell(instance_id=name, path=folder / name, smear=smear_of(name))
        for name in sort_naturally(found)
    )
    return Listing(cells=cells, skipped=tuple(skipped))


def smear_of(instance_id: str) -> str:
    """Name the folder of a cell below its patient; "" for a cell directly in it."""
    parent = PurePosixPath(instance_id).parent.as_posix()
    return "" if parent == "." else parent


def subfolders(folder: Path) -> dict[str, Path]:
    """Visible folders directly below, by comparable name, in natural order.

    Raises:
        LayoutError: Two names differ only in how their accents are encoded.
    """
    names = [e.name for e in folder.iterdir() if e.is_dir() and not e.name.startswith(".")]
    twice = [name for name, count in Counter(map(same_name, names)).items() if count > 1]
    if twice:
        message = f"folders in {folder} of one name, their accents encoded in two ways: "
        raise LayoutError(f"{message}{name_some(twice)}; put their files into one")
    return {same_name(name): folder / name for name in sort_naturally(names)}


def _walk(folder: Path, *, seen: set[tuple[int, int]]) -> Iterator[PurePosixPath]:
    """Yield every file below as a path relative to the folder, following links but never twice."""
    status = folder.stat()
    if (status.st_dev, status.st_ino) in seen:
        return
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.is_dir():
                for below in _walk(folder / entry.name, seen=seen):
                    yield PurePosixPath(entry.name) / below
            elif entry.is_file() or entry.is_symlink():
                yield PurePosixPath(entry.name)


def _refuse_undecodable(folder: Path, names: Iterable[str]) -> None:
    bad = [ascii(name) for name in names if not _is_utf8(name)]
    if bad:
        message = f"file names in {folder} that are not UTF-8: {name_some(bad)}; rename them"
        raise LayoutError(message)


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
