"""AnnData as scverse expects it: a row a cell, h5ad or zarr; needs ``aml-mil[anndata]``.

``obs`` patient_id, label, image, cell_type, smear · ``X`` features of the identity view (maps
flattened) · ``layers`` the other views · ``obsm`` spatial (= coords), colour, and embeddings given
at export · ``uns`` the manifest. N cells of all patients, D features.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stores.base import FeatureStore
from stores.documents import JSON
from stores.interchange.anndata_guard import check_file
from stores.interchange.cell_rows import CellRows, collect_rows
from stores.interchange.errors import (
    ExportError,
    InterchangeError,
    InterchangeUsageError,
    SourceError,
    name_some,
)
from stores.interchange.exporting import ExportedBag
from stores.interchange.hidden_path import hidden_path
from stores.interchange.own_notes import OwnNotes, manifest_json, parse_about, parse_manifest
from stores.interchange.source import (
    Content,
    FeatureSpec,
    Finding,
    ImportOptions,
    Source,
    SourceBag,
)
from stores.schema import COLOUR, Manifest

SUFFIXES = (".h5ad", ".zarr")
BAG_COLUMN = "patient_id"
LABEL_COLUMN = "label"
IMAGE_COLUMN = "image"
TYPE_COLUMN = "cell_type"
SMEAR_COLUMN = "smear"
SPATIAL = "spatial"
MANIFEST_KEY = "manifest"
ABOUT_KEY = "bags"
ZARR_FORMAT = 3


def load_library() -> Any:
    """Import anndata.

    Raises:
        InterchangeError: it is not installed.
    """
    try:
        return import_module("anndata")
    except ImportError as error:
        raise InterchangeError(
            "AnnData files need the package anndata: pip install 'aml-mil[anndata]'"
        ) from error


def open_anndata(path: Path, options: ImportOptions) -> Source:
    """Read an AnnData file into memory and describe its patients.

    Args:
        path: ``.h5ad`` or ``.zarr``.
        options: Names of the obs columns of patients and labels.

    Raises:
        SourceError: no such file, obs columns are missing, a patient has two labels.
        InterchangeError: anndata is not installed.
    """
    table = _read(path)
    own = OwnNotes()
    about: Mapping[str, Mapping[str, str]] = {}
    if isinstance(known := table.uns.get(MANIFEST_KEY), Mapping) and "json" in known:
        own = parse_manifest(str(known["json"]), place=f"{path} uns[{MANIFEST_KEY!r}]")
        about = _about(str(table.uns.get(ABOUT_KEY, "{}")), path)
    patients = _column(table, options.id_column or BAG_COLUMN, path)
    labels = _column(table, options.label_column or LABEL_COLUMN, path)
    if "" in patients:
        raise SourceError(f"{path}: cell {patients.index('')} has no patient; fill obs in")
    rows_of: dict[str, list[int]] = {}
    for row, patient in enumerate(patients):
        rows_of.setdefault(patient, []).append(row)
    columns = {
        name: _column(table, name, path)
        for name in (IMAGE_COLUMN, TYPE_COLUMN, SMEAR_COLUMN)
        if name in table.obs
    }
    bags = tuple(
        _bag(table, patient, np.array(rows), labels, columns, own, about.get(patient, {}), path)
        for patient, rows in rows_of.items()
    )
    return Source(
        importer="anndata",
        path=path,
        encoder=own.encoder,
        bags=bags,
        views=own.views,
        trained_on=own.trained_on,
        facts=own.facts,
        findings=tuple(
            Finding(bag_id=bag.bag_id, problem="no label: the field is empty")
            for bag in bags
            if bag.label is None
        ),
        notes=_notes(table, own, options),
    )


def _read(path: Path) -> Any:
    anndata = load_library()
    if path.suffix not in SUFFIXES:
        raise SourceError(f"{path} ends in neither {' nor '.join(SUFFIXES)}; check the path")
    read = anndata.read_h5ad if path.suffix == ".h5ad" else anndata.read_zarr
    if not path.exists():
        raise SourceError(f"{path} is not there; check the path")
    try:
        check_file(path)
        table = read(path)
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise SourceError(f"{path} cannot be read as AnnData: {error}") from error
    if table.X is None:
        held = name_some(list(table.obsm)) or "nothing"
        raise SourceError(f"{path} has no X to take the features from, obsm holds {held}; fill X")
    return table


def _about(text: str, path: Path) -> dict[str, dict[str, str]]:
    """Read what an export said about its bags."""
    try:
        return {bag_id: dict(texts) for bag_id, texts in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        place = f"{path} uns[{ABOUT_KEY!r}]"
        raise SourceError(f"{place} is not what an export writes: {error}") from error


def _column(table: Any, name: str, path: Path) -> list[str]:
    """Return a column of obs as text, "" where a field is missing."""
    if name not in table.obs:
        raise SourceError(f"{path} has no obs column {name!r}, it has {name_some(list(table.obs))}")
    values = table.obs[name].astype(object)
    return [str(value) for value in values.where(values.notna(), "")]


def _notes(table: Any, own: OwnNotes, options: ImportOptions) -> tuple[str, ...]:
    used = {
        options.id_column or BAG_COLUMN,
        options.label_column or LABEL_COLUMN,
        IMAGE_COLUMN,
        TYPE_COLUMN,
        SMEAR_COLUMN,
    }
    unused = [f"obs {name}" for name in table.obs if name not in used]
    unused += [f"layer {name}" for name in table.layers if name not in own.views]
    unused += [f"obsm {name}" for name in table.obsm if name not in (SPATIAL, COLOUR)]
    return (f"not taken over: {name_some(unused)}",) if unused else ()


def _bag(
    table: Any,
    patient: str,
    rows: NDArray[np.int64],
    labels: list[str],
    columns: Mapping[str, list[str]],
    own: OwnNotes,
    about: Mapping[str, str],
    path: Path,
) -> SourceBag:
    found = {labels[row] for row in rows} - {""}
    if len(found) > 1:
        raise SourceError(f"{path}: patient {patient!r} has labels {name_some(sorted(found))}")
    missing = [view for view in own.views[1:] if view not in table.layers]
    if missing:
        raise SourceError(f"{path} has no layers for the views {name_some(missing)}")
    shape = own.feature_shape or (table.n_vars,)
    if prod(shape) != table.n_vars:
        raise SourceError(f"{path}: X has {table.n_vars} columns, uns names features of {shape}")
    attributes, quarantined = parse_about(
        about.get("attributes", "{}"), about.get("quarantined", "[]"), place=f"{path} {patient}"
    )
    return SourceBag(
        bag_id=patient,
        place=f"{path} patient {patient!r}",
        spec=FeatureSpec(num_instances=len(rows), feature_shape=shape, dtype=table.X.dtype.name),
        load=partial(_load, table, rows, columns, shape=shape, views=own.views[1:]),
        label=next(iter(found), None),
        attributes=attributes,
        quarantined=quarantined,
    )


def _load(
    table: Any,
    rows: NDArray[np.int64],
    columns: Mapping[str, list[str]],
    *,
    shape: tuple[int, ...],
    views: tuple[str, ...],
) -> Content:
    def texts(name: str) -> tuple[str, ...] | None:
        return tuple(columns[name][row] for row in rows) if name in columns else None

    further = [_dense(table.layers[view], rows).reshape(len(rows), *shape) for view in views]
    return Content(
        features=_dense(table.X, rows).reshape(len(rows), *shape),
        views=np.stack(further) if further else None,
        instance_ids=texts(IMAGE_COLUMN) or tuple(str(table.obs_names[row]) for row in rows),
        instance_labels=texts(TYPE_COLUMN),
        smear=texts(SMEAR_COLUMN),
        coords=np.asarray(table.obsm[SPATIAL])[rows] if SPATIAL in table.obsm else None,
        colour=np.asarray(table.obsm[COLOUR])[rows] if COLOUR in table.obsm else None,
    )


def _dense(matrix: Any, rows: NDArray[np.int64]) -> NDArray[Any]:
    picked = matrix[rows]
    return np.asarray(picked.toarray() if hasattr(picked, "toarray") else picked)


def export_anndata(
    store: FeatureStore, path: Path, *, embeddings: Mapping[str, NDArray[Any]] | None = None
) -> Iterator[ExportedBag]:
    """Write a store as one AnnData file; all of it is held in memory.

    Args:
        store: Of vectors or maps.
        path: New ``.h5ad`` or ``.zarr``.
        embeddings: For obsm, e.g. ``X_umap`` ``[N, 2]``, over the cells of all bags in the order of
            the store's ids.

    Raises:
        InterchangeUsageError: another suffix.
        ExportError: embeddings of another length.
        StoreExistsError: there is something at the path already.
        InterchangeError: anndata is not installed.
    """
    anndata = load_library()
    if path.suffix not in SUFFIXES:
        raise InterchangeUsageError(
            f"an AnnData file ends in {' or '.join(SUFFIXES)}, got {path.name!r}"
        )
    with hidden_path(path) as hidden:
        cells = CellRows.empty(store)
        yield from collect_rows(store, cells)
        for name, values in (embeddings or {}).items():
            if len(values) != len(cells.features):
                raise ExportError(
                    f"{name} has {len(values)} rows for {len(cells.features)} cells of {store.path}"
                )
        table = _table(anndata, cells, store.manifest, embeddings or {})
        with anndata.settings.override(**_zarr_settings(anndata)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about what later releases of anndata and zarr will do
            (table.write_h5ad if path.suffix == ".h5ad" else table.write_zarr)(hidden)


def _zarr_settings(anndata: Any) -> dict[str, Any]:
    """Choose today's Zarr format, one chunk file a chunk; releases differ in what they know."""
    wanted = {"zarr_write_format": ZARR_FORMAT, "auto_shard_zarr_v3": False}
    return {name: value for name, value in wanted.items() if hasattr(anndata.settings, name)}


def _table(
    anndata: Any, cells: CellRows, manifest: Manifest, embeddings: Mapping[str, NDArray[Any]]
) -> Any:
    pandas = import_module("pandas")
    obs = {BAG_COLUMN: cells.bag_ids, LABEL_COLUMN: cells.labels, IMAGE_COLUMN: cells.instance_ids}
    for name, values in ((TYPE_COLUMN, cells.instance_labels), (SMEAR_COLUMN, cells.smear)):
        if values is not None:
            obs[name] = values
    categories = {
        name: pandas.Categorical([value or None for value in values])
        if name != IMAGE_COLUMN and any(values)
        else values
        for name, values in obs.items()
    }
    names = [f"{b}/{i}" for b, i in zip(cells.bag_ids, cells.instance_ids, strict=True)]
    obsm = {
        key: values
        for key, values in ((SPATIAL, cells.coords), (COLOUR, cells.colour))
        if values is not None
    }
    described: dict[str, Any] = {
        "encoder": manifest.encoder,
        "weights_sha256": manifest.weights_sha256,
        "views": np.array(manifest.views, dtype=object),
        "feature_shape": np.array(manifest.feature_shape),
        "json": manifest_json(manifest),
    }
    about: JSON = cells.about
    return anndata.AnnData(
        X=cells.features,
        obs=pandas.DataFrame(categories, index=names),
        var=pandas.DataFrame(index=[f"f{i + 1}" for i in range(cells.features.shape[1])]),
        layers=dict(zip(manifest.views[1:], cells.views, strict=True)),
        obsm={**obsm, **embeddings},
        uns={MANIFEST_KEY: described, ABOUT_KEY: json.dumps(about)},
    )
