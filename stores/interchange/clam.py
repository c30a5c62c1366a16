"""CLAM: ``h5_files/{slide}.h5`` and ``pt_files/{slide}.pt``, a CSV of case_id, slide_id, label.

A bag is a slide, as CLAM trains; its case stays as an attribute. N instances, D features.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import h5py
import numpy as np

from stores.base import FeatureStore
from stores.interchange.errors import SourceError, name_some
from stores.interchange.exporting import (
    ExportedBag,
    check_vectors,
    file_names,
    float32_features,
    integer_coords,
    left_out,
    write_csv,
)
from stores.interchange.folders import files_of
from stores.interchange.h5_files import describe_h5, load_h5
from stores.interchange.hidden_path import hidden_path
from stores.interchange.source import Content, Finding, ImportOptions, Source, SourceBag
from stores.interchange.tables import LabelTable, check_labels, labels_for, notes_on
from stores.interchange.tensor_files import TensorFiles
from stores.schema import COORDS

H5_DIR = "h5_files"
PT_DIR = "pt_files"
LABELS_FILE = "labels.csv"
ID_COLUMN = "slide_id"
CASE_COLUMN = "case_id"
LABEL_COLUMN = "label"


def open_clam(path: Path, options: ImportOptions, *, tensors: TensorFiles | None = None) -> Source:
    """Describe the features CLAM wrote.

    Args:
        path: The folder with ``h5_files`` or ``pt_files``, or one of these two.
        options: Table of labels, names of its columns.
        tensors: Reads ``.pt`` files where there are no ``.h5``.

    Raises:
        SourceError: files, tables or arrays are not as CLAM writes them.
    """
    h5_dir = path if path.name == H5_DIR else path / H5_DIR
    pt_dir = path if path.name == PT_DIR else path / PT_DIR
    table = labels_for(path, options, id_columns=(ID_COLUMN,), label_columns=(LABEL_COLUMN,))
    if h5_dir.is_dir():
        files = files_of(h5_dir, (".h5",))
        if pt_dir.is_dir():
            _check_same(files, files_of(pt_dir, (".pt",)), path)
        bags = tuple(_h5_bag(slide, file, table) for slide, file in files.items())
        notes = (f"features and coords from {h5_dir}",)
    elif pt_dir.is_dir() and tensors is not None:
        files = files_of(pt_dir, (".pt",))
        bags = tuple(_pt_bag(slide, file, table, tensors) for slide, file in files.items())
        notes = (f"features from {pt_dir}; there are no coords",)
    else:
        raise SourceError(f"{path} holds neither {H5_DIR}/ nor {PT_DIR}/; check the path")
    unknown = options.allow_unknown_labels
    return Source(
        importer="clam",
        path=path,
        encoder=None,
        bags=bags,
        findings=(
            *check_labels(table, tuple(files), allow_unknown=unknown),
            *_shared_cases(bags),
        ),
        notes=(*notes, *notes_on(table)),
    )


def _check_same(h5_files: dict[str, Path], pt_files: dict[str, Path], path: Path) -> None:
    only = sorted(h5_files.keys() ^ pt_files.keys())
    if only:
        raise SourceError(
            f"{path}: slides in one of {H5_DIR} and {PT_DIR} only: {name_some(only)}; "
            "extract them again or give one of the two folders"
        )


def _about(slide: str, table: LabelTable | None) -> tuple[str | None, dict[str, str]]:
    if table is None:
        return None, {}
    return table.labels.get(slide), dict(table.attributes.get(slide, {}))


def _h5_bag(slide: str, file: Path, table: LabelTable | None) -> SourceBag:
    found = describe_h5(file, features="features")
    label, attributes = _about(slide, table)
    return SourceBag(
        bag_id=slide,
        place=str(file),
        spec=found.spec,
        load=partial(load_h5, file, features="features"),
        label=label,
        attributes=attributes,
    )


def _pt_bag(slide: str, file: Path, table: LabelTable | None, tensors: TensorFiles) -> SourceBag:
    label, attributes = _about(slide, table)
    return SourceBag(
        bag_id=slide,
        place=str(file),
        spec=tensors.describe(file),
        load=lambda: Content(features=tensors.load(file)),
        label=label,
        attributes=attributes,
    )


def _shared_cases(bags: Sequence[SourceBag]) -> Iterator[Finding]:
    """Warn of slides of one case: folds are made of bags, so they may fall on both sides."""
    counts = Counter(str(bag.attributes.get(CASE_COLUMN, bag.bag_id)) for bag in bags)
    for bag in bags:
        case = str(bag.attributes.get(CASE_COLUMN, bag.bag_id))
        if counts[case] > 1:
            problem = f"one of {counts[case]} slides of case {case}; keep them in one fold"
            yield Finding(bag_id=bag.bag_id, problem=problem)


def export_clam(
    store: FeatureStore, path: Path, *, tensors: TensorFiles | None = None
) -> Iterator[ExportedBag]:
    """Write a store as CLAM's folders: float32 features, int32 coords, labels.

    Args:
        store: Of vectors.
        path: New folder.
        tensors: Writes ``pt_files`` too.

    Raises:
        ExportError: the store holds maps.
        StoreExistsError: there is something at the path already.
    """
    check_vectors(store, "CLAM")
    names = file_names(store)
    with hidden_path(path) as folder:
        (folder / H5_DIR).mkdir(parents=True)
        if tensors is not None:
            (folder / PT_DIR).mkdir()
        rows = [(CASE_COLUMN, ID_COLUMN, LABEL_COLUMN)]
        for bag_id, name in names.items():
            bag = store.read(bag_id)
            notes = left_out(bag, name=name, holds=(COORDS,), attributes=(CASE_COLUMN,))
            features = float32_features(bag, notes)
            coords = integer_coords(bag, np.dtype(np.int32), notes)
            with h5py.File(folder / H5_DIR / f"{name}.h5", "w") as file:
                file.create_dataset("features", data=features, maxshape=(None, features.shape[1]))
                file.create_dataset("coords", data=coords, maxshape=(None, 2))
            if tensors is not None:
                tensors.save(folder / PT_DIR / f"{name}.pt", features)
            rows.append((str(bag.attributes.get(CASE_COLUMN, name)), name, bag.label or ""))
            if bag.label is None:
                notes.append("no label: left empty")
            yield ExportedBag(bag_id=bag_id, num_instances=len(features), notes=tuple(notes))
        write_csv(folder / LABELS_FILE, rows)
