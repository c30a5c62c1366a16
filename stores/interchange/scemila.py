"""SCEMILA and the public TCIA set: feature maps beside the images, labels in ``metadata.csv``.

``ROOT/data/{bag_label}/{patient_id}/{prefix}bn_features_layer_7.npy``, shape (N, 512, 5, 5); row i
is image i in natural order.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from natsort import natsorted

from stores.interchange.errors import SourceError, name_some
from stores.interchange.folders import check_distinct
from stores.interchange.npy_files import describe_npy, load_npy
from stores.interchange.source import Content, ImportOptions, Source, SourceBag
from stores.interchange.tables import LabelTable, check_labels, notes_on, read_labels

METADATA_FILE = "metadata.csv"
DATA_DIR = "data"
FEATURES_SUFFIX = "bn_features_layer_7.npy"
ID_COLUMN = "patient_id"
LABEL_COLUMN = "bag_label"
IMAGE_SUFFIXES = frozenset({".tif", ".tiff", ".jpg", ".jpeg", ".png", ".bmp"})


def open_scemila(path: Path, options: ImportOptions) -> Source:
    """Describe the feature maps SCEMILA wrote beside the images.

    Args:
        path: The folder with ``metadata.csv`` and ``data``.
        options: Another table of labels, names of its columns, the prefix where there are several.

    Raises:
        SourceError: files, tables or arrays are not as SCEMILA writes them.
    """
    table = read_labels(
        options.labels or path / METADATA_FILE,
        id_columns=(options.id_column or ID_COLUMN,),
        label_columns=(options.label_column or LABEL_COLUMN,),
    )
    if not (path / DATA_DIR).is_dir():
        raise SourceError(f"{path} has no folder {DATA_DIR}/; check the path")
    files = natsorted((path / DATA_DIR).glob(f"*/*/*{FEATURES_SUFFIX}"), key=str)
    prefix = _prefix(files, options.prefix, path)
    files = [file for file in files if file.name == prefix + FEATURES_SUFFIX]
    check_distinct((file.parent.name for file in files), place=str(path / DATA_DIR))
    unknown = options.allow_unknown_labels
    return Source(
        importer="scemila",
        path=path,
        encoder=prefix.strip("_") or None,
        bags=tuple(_bag(file, table) for file in files),
        findings=check_labels(
            table, tuple(file.parent.name for file in files), allow_unknown=unknown
        ),
        facts={"features": prefix + FEATURES_SUFFIX},
        notes=(f"features from {prefix}{FEATURES_SUFFIX}", *notes_on(table)),
    )


def _prefix(files: Sequence[Path], wanted: str | None, path: Path) -> str:
    found = sorted({file.name.removesuffix(FEATURES_SUFFIX) for file in files})
    if not found:
        raise SourceError(f"{path} holds no {DATA_DIR}/*/*/*{FEATURES_SUFFIX}; check the path")
    if wanted is not None and wanted not in found:
        raise SourceError(f"{path} has no features of prefix {wanted!r}, only {name_some(found)}")
    if wanted is None and len(found) > 1:
        raise SourceError(f"{path} has features of several prefixes: {name_some(found)}; name one")
    return found[0] if wanted is None else wanted


def _bag(file: Path, table: LabelTable) -> SourceBag:
    patient, folder_label = file.parent.name, file.parent.parent.name
    label = table.labels.get(patient)
    if label is not None and label != folder_label:
        raise SourceError(
            f"patient {patient!r} is {label!r} in {table.path} but lies under {folder_label!r}; "
            "move the folder or correct the table"
        )
    spec = describe_npy(file)
    images = natsorted(
        entry.name for entry in file.parent.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES
    )
    if images and len(images) != spec.num_instances:
        raise SourceError(
            f"{file} has {spec.num_instances} rows, its folder {len(images)} images; "
            "extract the features again"
        )
    return SourceBag(
        bag_id=patient,
        place=str(file),
        spec=spec,
        load=partial(_load, file, images=tuple(images) or None),
        label=label,
        attributes=dict(table.attributes.get(patient, {})),
    )


def _load(file: Path, *, images: tuple[str, ...] | None) -> Content:
    return Content(features=load_npy(file), instance_ids=images)
