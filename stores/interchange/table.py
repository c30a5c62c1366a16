"""One CSV with a row an instance: ``bag,label,f1…fd``, as the classical MIL benchmarks come.

Every column that is not the bag, its label, or one of the instance's own (its id, label, x, y) is a
feature. N instances, D features.
"""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stores.base import FeatureStore
from stores.interchange.errors import ExportError, SourceError, name_some
from stores.interchange.exporting import ExportedBag, check_vectors, left_out
from stores.interchange.hidden_path import hidden_path
from stores.interchange.source import (
    Content,
    FeatureSpec,
    Finding,
    ImportOptions,
    Source,
    SourceBag,
)
from stores.interchange.tables import pick_column, read_header, read_rows

BAG_COLUMNS = ("bag", "bag_id", "patient_id")
LABEL_COLUMNS = ("label", "bag_label")
INSTANCE_ID_COLUMNS = ("instance_id", "image")
INSTANCE_LABEL_COLUMNS = ("instance_label", "cell_type")
COORDS_COLUMNS = ("x", "y")
TEXT_DTYPE = "float64"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Which column holds what."""

    bag: str
    label: str
    instance_id: str | None
    instance_label: str | None
    coords: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Rows:
    """The rows of one bag, as they are read."""

    labels: set[str] = field(default_factory=set)
    features: list[NDArray[np.float64]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    instance_labels: list[str] = field(default_factory=list)
    coords: list[tuple[float, ...]] = field(default_factory=list)


def open_table(path: Path, options: ImportOptions) -> Source:
    """Read a table of instances; its text is taken for numbers of 64 bits unless told otherwise.

    Args:
        path: CSV, or TSV by its suffix.
        options: Names of the columns of bag and label, dtype of the numbers.

    Raises:
        SourceError: columns are missing, a field is no number, a bag has two labels.
    """
    if not path.is_file():
        raise SourceError(f"{path} is no file; give the CSV")
    columns = _columns(path, options)
    dtype = np.dtype(options.dtype or TEXT_DTYPE)
    bags: dict[str, _Rows] = {}
    for line, row in read_rows(path):
        _add(bags, row, columns, place=f"{path} line {line}")
    is_numbered = columns.features == _default_names(len(columns.features))
    return Source(
        importer="table",
        path=path,
        encoder=None,
        bags=tuple(_bag(name, rows, dtype, path) for name, rows in bags.items()),
        facts={} if is_numbered else {"feature_names": list(columns.features)},
        findings=tuple(
            Finding(bag_id=name, problem="no label: the field is empty")
            for name, rows in bags.items()
            if not rows.labels
        ),
        notes=(
            f"bag ids from column {columns.bag}, labels from {columns.label}, "
            f"{len(columns.features)} features {columns.features[0]} to {columns.features[-1]}",
        ),
    )


def _default_names(width: int) -> tuple[str, ...]:
    return tuple(f"f{i + 1}" for i in range(width))


def _columns(path: Path, options: ImportOptions) -> _Columns:
    header = read_header(path)
    bag = pick_column(
        path, header, (options.id_column,) if options.id_column else BAG_COLUMNS, what="bags"
    )
    label = pick_column(
        path,
        header,
        (options.label_column,) if options.label_column else LABEL_COLUMNS,
        what="labels",
    )
    instance_id = _optional(path, header, INSTANCE_ID_COLUMNS)
    instance_label = _optional(path, header, INSTANCE_LABEL_COLUMNS)
    coords = COORDS_COLUMNS if all(name in header for name in COORDS_COLUMNS) else ()
    taken = {bag, label, instance_id, instance_label, *coords}
    features = tuple(name for name in header if name not in taken)
    if "" in features:
        raise SourceError(f"{path}: column {header.index('') + 1} has no name; name it or drop it")
    if not features:
        raise SourceError(f"{path} has no column of features beside {name_some(list(header))}")
    return _Columns(
        bag=bag,
        label=label,
        instance_id=instance_id,
        instance_label=instance_label,
        coords=coords,
        features=features,
    )


def _optional(path: Path, header: Sequence[str], names: Sequence[str]) -> str | None:
    found = [name for name in names if name in header]
    if len(found) > 1:
        raise SourceError(f"{path} has both columns {name_some(found)}; keep one")
    return found[0] if found else None


def _add(bags: dict[str, _Rows], row: Mapping[str, str], columns: _Columns, *, place: str) -> None:
    bag_id = row[columns.bag]
    if not bag_id:
        raise SourceError(f"{place} has no {columns.bag}; fill it in or drop the row")
    rows = bags.setdefault(bag_id, _Rows())
    rows.features.append(_numbers(row, columns.features, place=place))
    if label := row[columns.label]:
        rows.labels.add(label)
        if len(rows.labels) > 1:
            names = name_some(sorted(rows.labels))
            raise SourceError(f"{place}: bag {bag_id!r} has two labels: {names}; a bag has one")
    if columns.instance_id:
        rows.ids.append(row[columns.instance_id])
    if columns.instance_label:
        rows.instance_labels.append(row[columns.instance_label])
    if columns.coords:
        rows.coords.append(tuple(_numbers(row, columns.coords, place=place).tolist()))


def _numbers(row: Mapping[str, str], names: Sequence[str], *, place: str) -> NDArray[np.float64]:
    """Read numbers; an empty field is a missing number, NaN."""
    try:
        return np.array([float(row[name] or "nan") for name in names])
    except ValueError as error:
        bad = next(name for name in names if not _is_number(row[name]))
        raise SourceError(
            f"{place}: {bad} is {row[bad]!r}, expected a number; "
            "every column but bag and label is a feature"
        ) from error


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True


def _bag(name: str, rows: _Rows, dtype: np.dtype[np.floating], path: Path) -> SourceBag:
    with np.errstate(over="ignore"):
        features = np.stack(rows.features).astype(dtype)
    content = Content(
        features=features,
        instance_ids=tuple(rows.ids) or None,
        instance_labels=tuple(rows.instance_labels) or None,
        coords=np.array(rows.coords) if rows.coords else None,
    )
    return SourceBag(
        bag_id=name,
        place=f"{path} bag {name!r}",
        spec=FeatureSpec(
            num_instances=len(features), feature_shape=features.shape[1:], dtype=dtype.name
        ),
        load=partial(_same, content),
        label=next(iter(rows.labels), None),
    )


def _same(content: Content) -> Content:
    return content


def export_table(store: FeatureStore, path: Path) -> Iterator[ExportedBag]:
    """Write ``bag,label,f1…fd``, every number with as many digits as it takes to read it back.

    Args:
        store: Of vectors.
        path: New file.

    Raises:
        ExportError: the store holds maps.
        StoreExistsError: there is something at the path already.
    """
    check_vectors(store, "a table")
    ids = store.bag_ids
    if not ids:
        raise ExportError(f"{store.path} has no bags; nothing to export")
    (width,) = store.manifest.feature_shape
    known = store.manifest.numerics.get("feature_names")
    names = known if isinstance(known, Sequence) and len(known) == width else _default_names(width)
    with hidden_path(path) as hidden, hidden.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([BAG_COLUMNS[0], LABEL_COLUMNS[0], *names])
        for bag_id in ids:
            bag = store.read(bag_id)
            notes = left_out(bag)
            if bag.label is None:
                notes.append("no label: left empty")
            for row in bag.features.astype(np.float64).tolist():
                writer.writerow([bag_id, bag.label or "", *map(repr, row)])
            yield ExportedBag(bag_id=bag_id, num_instances=len(bag.features), notes=tuple(notes))
