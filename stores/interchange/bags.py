"""One ``.npy``, ``.npz`` or ``.h5`` file a bag, and a CSV of labels: what most projects have.

An ``.npz`` may hold ``features`` and, each of N entries, ``coords``, ``instance_ids``,
``instance_labels``, ``smear``, ``colour``; ``views`` is ``[V-1, N, D…]``. An export holds all a
store holds. N instances, D… the shape of one feature, V views.
"""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.base import FeatureStore
from stores.interchange.errors import SourceError, name_some
from stores.interchange.exporting import ExportedBag, file_names, write_csv
from stores.interchange.folders import check_distinct, files_of
from stores.interchange.h5_files import dataset_names, describe_h5, load_h5
from stores.interchange.hidden_path import hidden_path
from stores.interchange.npy_files import (
    describe_npy,
    describe_npz,
    load_npy,
    load_npz,
    spec_of_shape,
)
from stores.interchange.own_notes import (
    OwnNotes,
    parse_about,
    quarantined_json,
    read_own_notes,
    write_own_notes,
)
from stores.interchange.source import Content, FeatureSpec, ImportOptions, Source, SourceBag
from stores.interchange.tables import LabelTable, check_labels, labels_for, notes_on
from stores.schema import (
    COLOUR,
    COORDS,
    FEATURES,
    INSTANCE_IDS,
    INSTANCE_LABELS,
    SMEAR,
    TEXT_ARRAYS,
    VIEWS,
)

SUFFIXES = (".npy", ".npz", ".h5")
NOTES_FILE = "bags.json"
LABELS_FILE = "labels.csv"
ID_COLUMNS = ("bag_id", "bag", "patient_id", "slide_id")
LABEL_COLUMNS = ("label", "bag_label")
BAG_ID, ATTRIBUTES, QUARANTINED = "bag_id", "attributes", "quarantined"
ARRAYS = (FEATURES, VIEWS, COORDS, COLOUR, INSTANCE_IDS, INSTANCE_LABELS, SMEAR)


def open_bags(path: Path, options: ImportOptions) -> Source:
    """Describe a folder with one file a bag.

    Args:
        path: The folder.
        options: Table of labels, names of its columns.

    Raises:
        SourceError: files, tables or arrays do not fit.
    """
    files = files_of(path, SUFFIXES)
    own = read_own_notes(path / NOTES_FILE)
    table = labels_for(path, options, id_columns=ID_COLUMNS, label_columns=LABEL_COLUMNS)
    bags = tuple(_bag(name, file, table, own) for name, file in files.items())
    ids = tuple(bag.bag_id for bag in bags)
    check_distinct(ids, place=str(path))
    unknown = options.allow_unknown_labels
    return Source(
        importer="bags",
        path=path,
        encoder=own.encoder,
        bags=bags,
        views=own.views,
        trained_on=own.trained_on,
        facts=own.facts,
        findings=check_labels(table, ids, allow_unknown=unknown),
        notes=notes_on(table),
    )


def _bag(name: str, file: Path, table: LabelTable | None, own: OwnNotes) -> SourceBag:
    about: dict[str, str] = {BAG_ID: name, ATTRIBUTES: "{}", QUARANTINED: "[]"}
    if file.suffix == ".npz":
        spec = _describe_npz(file, own, about)
        load = partial(_load_npz, file)
    elif file.suffix == ".h5":
        key = _features_key(file, dataset_names(file))
        spec = describe_h5(file, features=key, maps=True).spec
        load = partial(load_h5, file, features=key)
    else:
        spec = describe_npy(file)
        load = partial(_load_npy, file)
    if len(own.views) > 1 and file.suffix != ".npz":
        raise SourceError(f"{file} holds no views, {NOTES_FILE} names {len(own.views)}")
    bag_id = about[BAG_ID]
    listed = table.attributes.get(bag_id, {}) if table else {}
    kept, quarantined = parse_about(about[ATTRIBUTES], about[QUARANTINED], place=str(file))
    return SourceBag(
        bag_id=bag_id,
        place=str(file),
        spec=spec,
        load=load,
        label=table.labels.get(bag_id) if table else None,
        attributes={**listed, **kept},
        quarantined=quarantined,
    )


def _features_key(file: Path, names: Sequence[str]) -> str:
    """Name the array that holds the features: ``features``, or the only one there is."""
    if FEATURES in names:
        return FEATURES
    if len(names) != 1:
        raise SourceError(f"{file} has no array {FEATURES!r}, it holds {name_some(list(names))}")
    return names[0]


def _describe_npz(file: Path, own: OwnNotes, about: dict[str, str]) -> FeatureSpec:
    found = describe_npz(file)
    shape, dtype = found[_features_key(file, list(found))]
    spec = spec_of_shape(shape, dtype, place=str(file))
    for name in (COORDS, COLOUR, INSTANCE_IDS, INSTANCE_LABELS, SMEAR):
        if name in found and found[name][0][:1] != (spec.num_instances,):
            raise SourceError(
                f"{file}: {name} has shape {found[name][0]}, expected {spec.num_instances} rows "
                f"for the features {shape}"
            )
    expected = (len(own.views) - 1, *shape)
    given = found[VIEWS][0] if VIEWS in found else (0, *shape)
    if given != expected:
        raise SourceError(
            f"{file}: views have shape {given}, expected {expected}; {NOTES_FILE} must name them"
        )
    texts = [name for name in about if name in found]
    about.update({name: str(value) for name, value in load_npz(file, texts).items()})
    return spec


def _load_npz(file: Path) -> Content:
    arrays: dict[str, Any] = dict(load_npz(file))
    key = _features_key(file, list(arrays))
    values = {FEATURES: arrays[key], **{name: arrays[name] for name in ARRAYS if name in arrays}}
    for name in TEXT_ARRAYS & values.keys():
        values[name] = tuple(str(text) for text in values[name].astype(str).tolist())
    return Content(**values)


def _load_npy(file: Path) -> Content:
    return Content(features=load_npy(file))


def export_bags(store: FeatureStore, path: Path) -> Iterator[ExportedBag]:
    """Write one ``.npz`` a bag with everything the store holds, and a table of labels.

    Args:
        store: Of vectors or maps.
        path: New folder.

    Raises:
        StoreExistsError: there is something at the path.
    """
    names = file_names(store)
    with hidden_path(path) as folder:
        folder.mkdir(parents=True)
        rows = [(ID_COLUMNS[0], LABEL_COLUMNS[0])]
        for bag_id, name in names.items():
            bag = store.read(bag_id)
            arrays: dict[str, NDArray[Any]] = {
                key: np.asarray(getattr(bag, key))
                for key in ARRAYS
                if getattr(bag, key) is not None
            }
            arrays[BAG_ID] = np.asarray(bag_id)
            arrays[ATTRIBUTES] = np.asarray(json.dumps(bag.attributes))
            arrays[QUARANTINED] = np.asarray(json.dumps(quarantined_json(bag.quarantined)))
            np.savez(folder / f"{name}.npz", allow_pickle=False, **arrays)
            rows.append((bag_id, bag.label or ""))
            notes = ("no label: left empty",) if bag.label is None else ()
            yield ExportedBag(bag_id=bag_id, num_instances=len(bag.features), notes=notes)
        write_csv(folder / LABELS_FILE, rows)
        write_own_notes(folder / NOTES_FILE, store.manifest)
