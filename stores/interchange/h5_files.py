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


def describe_h5(
    path: Path, *, features: str, coords: str = "coords", maps: bool = False
) -> H5Description:
    """Read the headers of a file and check that features and coords fit.

    Args:
        path: The file.
        features: Name of the dataset of features, ``(N, D)`` or ``(D,)``.
        coords: Name of the dataset of coords, ``(N, 2)``; it may be missing.
        maps: Features may also be ``(N, C, H, W)``.

    Raises:
        SourceError: the dataset is missing, of another shape, or the N differ.
    """
    with opened(path) as file:
        values = file.get(features)
        if not isinstance(values, h5py.Dataset):
            names = name_some(sorted(file)) or "nothing"
            raise SourceError(f"{path} has no dataset {features!r}, it holds {names}")
        if values.ndim not in (1, 2) and not (maps and values.ndim > 2):
            raise SourceError(f"{path}: {features} has shape {values.shape}, expected (N, D)")
        places = file.get(coords)
        is_single = values.ndim == 1
        if places is not None and not is_single and places.shape != (len(values), 2):
            raise SourceError(
                f"{path}: {coords} has shape {places.shape}, expected ({len(values)}, 2) "
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


def load_h5(path: Path, *, features: str, coords: str = "coords") -> Content:
    """Read the features and coords of a file that was described."""
    with opened(path) as file:
        values: NDArray[Any] = file[features][...]
        if values.ndim == 1:
            return Content(features=values[np.newaxis])
        places = file[coords][...] if coords in file else None
    return Content(features=values, coords=places)


def json_attributes(attributes: Mapping[str, Any]) -> dict[str, JSON]:
    """Turn HDF5 attributes into plain JSON values; what JSON cannot hold becomes text."""
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
    """Name the datasets in the root of a file."""
    with opened(path) as file:
        return tuple(name for name, item in file.items() if isinstance(item, h5py.Dataset))
