"""NumPy's own files, read only where they are what they say: no pickles, no bombs.

Every array is described by its header first; nothing is allocated for a claim that the file does
not bear out.
"""

import zipfile
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from stores.claims import check_claim

MAX_HEADER_BYTES = 2**16
SUFFIX = ".npy"


class ArrayHeader(NamedTuple):
    """Shape and dtype of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        """Size of the array in memory."""
        return prod(self.shape) * self.dtype.itemsize


def npy_header(path: Path) -> ArrayHeader:
    """Read the header of an ``.npy`` file and check that the numbers it announces are there.

    Raises:
        OSError: it cannot be read.
        ValueError: another file, a cut one, pickled objects, or over 4 GiB.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        header = _read_header(file)
        rest = size - file.tell()
    if header.nbytes > rest:
        raise ValueError(f"it announces {header.nbytes} bytes of numbers and has {rest}")
    check_claim(header.nbytes, size, what="it")
    return header


def load_npy(path: Path) -> NDArray[Any]:
    """Read an ``.npy`` file.

    Raises:
        OSError: it cannot be read.
        ValueError: as ``npy_header``.
    """
    npy_header(path)
    values: NDArray[Any] = np.load(path, allow_pickle=False)
    return values


def npz_headers(path: Path) -> dict[str, ArrayHeader]:
    """Read the headers of the arrays of an ``.npz`` file.

    Raises:
        OSError: it cannot be read.
        ValueError: another file, a cut one, pickled objects, or a bomb.
        zipfile.BadZipFile: it is no whole zip file.
    """
    found = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        claimed = sum(member.file_size for member in members)
        check_claim(claimed, path.stat().st_size, what="its arrays together")
        for member in members:
            with archive.open(member) as file:
                header = _read_header(file)
                rest = member.file_size - file.tell()
            if header.nbytes > rest:
                raise ValueError(
                    f"{member.filename} announces {header.nbytes} bytes of numbers and has {rest}"
                )
            found[member.filename.removesuffix(SUFFIX)] = header
    return found


def load_npz(path: Path, names: Sequence[str] | None = None) -> Mapping[str, NDArray[Any]]:
    """Read some arrays of an ``.npz`` file; all of them if None.

    Raises:
        OSError: it cannot be read.
        ValueError: as ``npz_headers``.
        KeyError: it has no array of that name.
        zipfile.BadZipFile: it is no whole zip file.
    """
    npz_headers(path)
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in (file.files if names is None else names)}


def _read_header(file: IO[bytes]) -> ArrayHeader:
    start = file.read(12)
    file.seek(0)
    version = npy_format.read_magic(file)
    if version != (1, 0) and int.from_bytes(start[8:], "little") > MAX_HEADER_BYTES:
        raise ValueError(f"its header is longer than {MAX_HEADER_BYTES} bytes")
    read = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError(
            "it holds pickled Python objects, expected numbers; save it as a plain array"
        )
    if not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"it announces {dtype} of shape {shape}, expected numbers")
    return ArrayHeader(shape, dtype)
