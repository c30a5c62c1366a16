"""NumPy files of neighbours: described from their headers, never unpickled."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from stores.interchange.errors import SourceError
from stores.interchange.source import FeatureSpec


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        text = str(error)
        if "allow_pickle" in text or "Object arrays" in text:
            text = "it holds pickled Python objects, expected numbers; save it as a plain array"
        raise SourceError(f"{path} cannot be read as NumPy arrays: {text}") from error


def describe_npy(path: Path) -> FeatureSpec:
    """Read the header of an ``.npy`` file of features ``[N, D…]``.

    Raises:
        SourceError: another file, pickled objects, or no features.
    """
    with _reading(path), path.open("rb") as file:
        shape, dtype = _header(file)
    return spec_of_shape(shape, dtype, place=str(path))


def describe_npz(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Read shape and dtype of every array of an ``.npz`` file from their headers.

    Raises:
        SourceError: another file, or pickled objects.
    """
    found = {}
    with _reading(path), zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as file:
                found[member.removesuffix(".npy")] = _header(file)
    return found


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy_format.read_magic(file)
    read = (
        npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    )
    shape, _, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("Object arrays")
    return shape, dtype


def spec_of_shape(shape: tuple[int, ...], dtype: np.dtype[Any], *, place: str) -> FeatureSpec:
    """Describe features by shape and dtype; a 1-D array is no bag.

    Raises:
        SourceError: fewer than two axes.
    """
    if len(shape) < 2:
        raise SourceError(f"{place}: features have shape {shape}, expected (N, D) or (N, C, H, W)")
    return FeatureSpec(num_instances=shape[0], feature_shape=tuple(shape[1:]), dtype=dtype.name)


def load_npy(path: Path) -> NDArray[Any]:
    """Read an ``.npy`` file.

    Raises:
        SourceError: another file, cut, or pickled objects.
    """
    with _reading(path):
        values = np.load(path, allow_pickle=False)
        if not isinstance(values, np.ndarray):
            raise SourceError(f"{path} holds several arrays, expected one")
        return values


def load_npz(path: Path, names: Sequence[str] | None = None) -> Mapping[str, NDArray[Any]]:
    """Read some arrays of an ``.npz`` file; all of them if None.

    Raises:
        SourceError: another file, cut, or pickled objects.
    """
    with _reading(path), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in (file.files if names is None else names)}
