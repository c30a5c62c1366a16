"""NumPy files of neighbours: described from their headers, never unpickled."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores import numpy_files
from stores.interchange.errors import SourceError
from stores.interchange.source import FeatureSpec
from stores.numpy_files import ArrayHeader


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise SourceError(f"{path} cannot be read as NumPy arrays: {error}") from error


def describe_npy(path: Path) -> FeatureSpec:
    """Read the header of an ``.npy`` file of features ``[N, D…]``.

    Raises:
        SourceError: another file, cut, pickled objects, or no features.
    """
    with _reading(path):
        header = numpy_files.npy_header(path)
    return spec_of_shape(header.shape, header.dtype, place=str(path))


def describe_npz(path: Path) -> Mapping[str, ArrayHeader]:
    """Read shape and dtype of every array of an ``.npz`` file from their headers.

    Raises:
        SourceError: another file, cut, pickled objects, or a bomb.
    """
    with _reading(path):
        return numpy_files.npz_headers(path)


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
        SourceError: as ``describe_npy``.
    """
    with _reading(path):
        return numpy_files.load_npy(path)


def load_npz(path: Path, names: Sequence[str] | None = None) -> Mapping[str, NDArray[Any]]:
    """Read some arrays of an ``.npz`` file; all of them if None.

    Raises:
        SourceError: as ``describe_npz``.
    """
    with _reading(path):
        return numpy_files.load_npz(path, names)
