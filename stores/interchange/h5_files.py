"""Neighbours' HDF5 files: one dataset of features, one of coords, attributes on each.

N instances, D features.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stores.documents import JSON
from stores.interchange.errors import SourceError, name_some
from stores.interchange.source import Content, FeatureSpec
from stores.plain_hdf5 import plain_dataset

COORDS = "coords"
MAX_ATTRIBUTE_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class H5Description:
    """What a file holds, read from its headers.

    Attributes:
        spec: Of the features; one instance where they are a single vector.
        is_single: The features are one vector ``(D,)`` for the whole bag.
        coords_dtype: None where there are no coords.
        attributes: Of the file itself.
        feature_attributes: Of the features.
        coords_attributes: Of the coords.
    """

    spec: FeatureSpec
    is_single: bool
    coords_dtype: str | None
    attributes: Mapping[str, JSON]
    feature_attributes: Mapping[str, JSON]
    coords_attributes: Mapping[str, JSON]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading and turn what h5py says about a broken one into one line.

    Raises:
        SourceError: no HDF5 file, or a damaged one.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise SourceError(f"{path} cannot be read as HDF5: {error}") from error


def describe_h5(path: Path, *, features: str, maps: bool = False) -> H5Description:
    """Read the headers of a file and check that features and coords fit.

    Args:
        path: The file.
        features: Name of the dataset of features, ``(N, D)`` or ``(D,)``; beside it there may be
            ``coords``, ``(N, 2)``.
        maps: Features may also be ``(N, C, H, W)``.

    Raises:
        SourceError: the dataset is missing, of another shape, or the N differ.
    """
    with opened(path) as file:
        if features not in file.keys():  # noqa: SIM118 (`in file` would follow a link)
            names = name_some(sorted(file)) or "nothing"
            raise SourceError(f"{path} has no dataset {features!r}, it holds {names}")
        values = plain_dataset(file, features)
        if values.ndim not in (1, 2) and not (maps and values.ndim > 2):
            raise SourceError(f"{path}: {features} has shape {values.shape}, expected (N, D)")
        places = _places(file)
        is_single = values.ndim == 1
        if places is not None and not is_single and places.shape != (len(values), 2):
            raise SourceError(
                f"{path}: {COORDS} has shape {places.shape}, expected ({len(values)}, 2) "
                f"for the {len(values)} rows of {features}; extract the file again"
            )
        return H5Description(
            spec=FeatureSpec(
                num_instances=1 if is_single else len(values),
                feature_shape=tuple(values.shape if is_single else values.shape[1:]),
                dtype=values.dtype.name,
            ),
            is_single=is_single,
            coords_dtype=None if places is None or is_single else places.dtype.name,
            attributes=json_attributes(file.attrs),
            feature_attributes=json_attributes(values.attrs),
            coords_attributes={} if places is None else json_attributes(places.attrs),
        )


def load_h5(path: Path, *, features: str) -> Content:
    """Read the features and coords of a file that was described."""
    with opened(path) as file:
        values: NDArray[Any] = plain_dataset(file, features)[...]
        if values.ndim == 1:
            return Content(features=values[np.newaxis])
        places = _places(file)
        return Content(features=values, coords=None if places is None else places[...])


def _places(file: h5py.File) -> h5py.Dataset | None:
    return plain_dataset(file, COORDS) if file.get(COORDS, getlink=True) is not None else None


def json_attributes(attributes: h5py.AttributeManager) -> dict[str, JSON]:
    """Turn HDF5 attributes into plain JSON values; what JSON cannot hold becomes text.

    Raises:
        ValueError: one is too large, or a list of texts, whose size nothing limits.
    """
    for name in attributes:
        attribute = attributes.get_id(name)
        is_texts = attribute.dtype.hasobject and attribute.shape != ()
        if is_texts or attribute.get_storage_size() > MAX_ATTRIBUTE_BYTES:
            raise ValueError(
                f"attribute {name} is a list of texts or over {MAX_ATTRIBUTE_BYTES} bytes; "
                "remove it"
            )
    return {name: _plain(value) for name, value in attributes.items()}


def _plain(value: Any) -> JSON:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def dataset_names(path: Path) -> tuple[str, ...]:
    """Name the datasets in the root of a file, following no links."""
    with opened(path) as file:
        own = [name for name in file if isinstance(file.get(name, getlink=True), h5py.HardLink)]
        return tuple(name for name in own if isinstance(file[name], h5py.Dataset))
