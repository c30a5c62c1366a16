"""TRIDENT: ``features_{encoder}/{name}.h5`` with attributes, ``slide_features_{encoder}/…``.

An export is a folder as TRIDENT names it ``{mag}x_{patch}px_{overlap}px_overlap``: features,
``patches/{name}_patches.h5`` and a table of labels. N instances, D features.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from stores.base import FeatureStore
from stores.documents import JSON
from stores.interchange.errors import SourceError, name_some
from stores.interchange.exporting import (
    ExportedBag,
    check_vectors,
    file_names,
    integer_coords,
    left_out,
    write_csv,
)
from stores.interchange.folders import files_of, one_value
from stores.interchange.h5_files import H5Description, describe_h5, load_h5
from stores.interchange.hidden_path import hidden_path
from stores.interchange.source import ImportOptions, Source, SourceBag
from stores.interchange.tables import check_labels, labels_for, notes_on
from stores.schema import COORDS

FEATURES_PREFIX = "features_"
SLIDE_PREFIX = "slide_features_"
PATCHES_DIR = "patches"
LABELS_FILE = "labels.csv"
ID_COLUMNS = ("slide_id", "wsi_name", "name")
LABEL_COLUMN = "label"
NO_ENCODER = "None"
COORDS_ATTRIBUTES = (
    "patch_size",
    "patch_size_level0",
    "level0_magnification",
    "target_magnification",
    "overlap",
    "level0_width",
    "level0_height",
)


def open_trident(path: Path, options: ImportOptions) -> Source:
    """Describe the features TRIDENT wrote for patches, or for whole slides.

    Args:
        path: A folder of features, or one that holds exactly one such folder.
        options: Table of labels, names of its columns.

    Raises:
        SourceError: files or arrays are not as TRIDENT writes them.
    """
    folder = _features_dir(path)
    table = labels_for(path, options, id_columns=ID_COLUMNS, label_columns=(LABEL_COLUMN,))
    files = files_of(folder, (".h5",))
    found = {name: describe_h5(file, features="features") for name, file in files.items()}
    named = one_value(map(_encoder_of, found.values()), place=str(folder), what="encoders")
    in_name = folder.name.removeprefix("slide_").removeprefix(FEATURES_PREFIX)
    bags = tuple(
        SourceBag(
            bag_id=name,
            place=str(files[name]),
            spec=description.spec,
            load=partial(load_h5, files[name], features="features"),
            label=table.labels.get(name) if table else None,
            attributes={
                **(table.attributes.get(name, {}) if table else {}),
                **_attributes(description),
            },
        )
        for name, description in found.items()
    )
    unknown = options.allow_unknown_labels
    return Source(
        importer="trident",
        path=path,
        encoder=named or (None if in_name == folder.name else in_name),
        bags=bags,
        findings=check_labels(table, tuple(files), allow_unknown=unknown),
        notes=(f"features from {folder}", *notes_on(table)),
    )


def _features_dir(path: Path) -> Path:
    if not path.is_dir():
        raise SourceError(f"{path} is no folder; check the path")
    if path.name.startswith((FEATURES_PREFIX, SLIDE_PREFIX)) or any(path.glob("*.h5")):
        return path
    found = sorted(
        entry
        for entry in path.iterdir()
        if entry.is_dir() and entry.name.startswith((FEATURES_PREFIX, SLIDE_PREFIX))
    )
    if len(found) != 1:
        names = name_some([entry.name for entry in found]) or "none"
        raise SourceError(f"{path} must hold one features_… folder, it holds {names}; give one")
    return found[0]


def _encoder_of(description: H5Description) -> str | None:
    """Read the encoder's name: plain, or within JSON."""
    value = description.feature_attributes.get("encoder")
    if not isinstance(value, str) or value in ("", NO_ENCODER):
        return None
    try:
        fields = json.loads(value)
    except ValueError:
        return value
    if isinstance(fields, dict):
        names = (fields.get(key) for key in ("enc_name", "encoder_name", "name"))
        return next((name for name in names if isinstance(name, str) and name), value)
    return value


def _attributes(description: H5Description) -> dict[str, JSON]:
    kept: dict[str, JSON] = {}
    for name, attributes in (
        ("features", description.feature_attributes),
        ("coords", description.coords_attributes),
    ):
        if attributes:
            kept[name] = attributes
    return kept


def export_trident(store: FeatureStore, path: Path) -> Iterator[ExportedBag]:
    """Write a store as TRIDENT's folders, features in the store's own dtype.

    Args:
        store: Of vectors.
        path: New folder.

    Raises:
        ExportError: the store holds maps.
        StoreExistsError: there is something at the path already.
    """
    check_vectors(store, "TRIDENT")
    names = file_names(store)
    encoder = store.manifest.encoder
    with hidden_path(path) as folder:
        features_dir = folder / f"{FEATURES_PREFIX}{encoder.replace('/', '_')}"
        features_dir.mkdir(parents=True)
        (folder / PATCHES_DIR).mkdir()
        rows = [(ID_COLUMNS[0], LABEL_COLUMN)]
        for bag_id, name in names.items():
            bag = store.read(bag_id)
            notes = left_out(bag, name=name, holds=(COORDS,), attributes=("features", "coords"))
            coords = integer_coords(bag, np.dtype(np.int64), notes)
            about = _coords_attributes(bag.attributes.get("coords"), name=name, notes=notes)
            with h5py.File(features_dir / f"{name}.h5", "w") as file:
                features = _write_rows(file, "features", bag.features)
                features.attrs.update(
                    {"encoder": encoder, "name": name, "savetodir": features_dir.name}
                )
                _write_rows(file, "coords", coords).attrs.update(about)
            with h5py.File(folder / PATCHES_DIR / f"{name}_patches.h5", "w") as file:
                _write_rows(file, "coords", coords).attrs.update(about)
            rows.append((name, bag.label or ""))
            if bag.label is None:
                notes.append("no label: left empty")
            yield ExportedBag(bag_id=bag_id, num_instances=len(coords), notes=tuple(notes))
        write_csv(folder / LABELS_FILE, rows)


def _write_rows(file: h5py.File, name: str, values: NDArray[Any]) -> Any:
    """Write a dataset as TRIDENT does: one chunk a row, growing without end."""
    return file.create_dataset(
        name, data=values, chunks=(1, values.shape[1]), maxshape=(None, values.shape[1])
    )


def _coords_attributes(known: JSON, *, name: str, notes: list[str]) -> dict[str, Any]:
    """Repeat what TRIDENT said about the coords; zeros where it said nothing."""
    given = known if isinstance(known, Mapping) else {}
    if any(key not in given for key in COORDS_ATTRIBUTES):
        notes.append("no patch size or magnification: zeros written")
    about = {key: given.get(key, 0) for key in COORDS_ATTRIBUTES}
    return {**about, "name": name, "savetodir": PATCHES_DIR}
