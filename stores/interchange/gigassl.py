"""Giga-SSL: ``tiles/{slide}/{view}.npy`` and ``coordinates/{slide}/{view}.npy``, or embeddings.

The views of a slide that show the same places are stored as views of one bag, in natural order; the
first stands where a store keeps the untouched image. ``embeddings.npy`` with ``ids.npy`` become
bags of one instance. N instances, D features, V views.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from natsort import natsorted
from numpy.typing import NDArray

from stores.interchange.errors import SourceError, name_some
from stores.interchange.folders import check_distinct, files_of
from stores.interchange.npy_files import describe_npy, load_npy
from stores.interchange.source import Content, FeatureSpec, ImportOptions, Source, SourceBag
from stores.interchange.tables import LabelTable, check_labels, labels_for, notes_on
from stores.schema import IDENTITY_VIEW

TILES_DIR = "tiles"
COORDS_DIR = "coordinates"
EMBEDDINGS_FILE = "embeddings.npy"
IDS_FILE = "ids.npy"
ID_COLUMNS = ("slide_id", "slide", "ID", "id")
LABEL_COLUMN = "label"


def open_gigassl(path: Path, options: ImportOptions) -> Source:
    """Describe the tiles' features, or the bags' embeddings.

    Args:
        path: The folder with ``tiles``, or with ``embeddings.npy`` and ``ids.npy``.
        options: Table of labels, names of its columns, the view where they differ in places.

    Raises:
        SourceError: files, tables or arrays are not as Giga-SSL writes them.
    """
    table = labels_for(path, options, id_columns=ID_COLUMNS, label_columns=(LABEL_COLUMN,))
    if (path / TILES_DIR).is_dir():
        bags, views, note = _tiles(path, options.view, table)
    elif (path / EMBEDDINGS_FILE).is_file():
        if options.view is not None:
            raise SourceError(f"{path / EMBEDDINGS_FILE} has no views; give none")
        bags, views, note = _embeddings(path, table), (IDENTITY_VIEW,), "one instance per bag"
    else:
        raise SourceError(
            f"{path} holds neither {TILES_DIR}/ nor {EMBEDDINGS_FILE}; check the path"
        )
    ids = tuple(bag.bag_id for bag in bags)
    unknown = options.allow_unknown_labels
    return Source(
        importer="gigassl",
        path=path,
        encoder=None,
        bags=bags,
        views=views,
        findings=check_labels(table, ids, allow_unknown=unknown),
        notes=(note, *notes_on(table)),
    )


def _tiles(
    path: Path, wanted: str | None, table: LabelTable | None
) -> tuple[tuple[SourceBag, ...], tuple[str, ...], str]:
    slides = natsorted(entry.name for entry in (path / TILES_DIR).iterdir() if entry.is_dir())
    if not slides:
        raise SourceError(f"{path / TILES_DIR} holds no slide; check the path")
    files = {slide: files_of(path / TILES_DIR / slide, (".npy",)) for slide in slides}
    names = tuple(files[slides[0]])
    odd = [slide for slide in slides if tuple(files[slide]) != names]
    if wanted is None and odd:
        raise SourceError(
            f"{path}: slides with other views than {slides[0]} ({name_some(names)}): "
            f"{name_some(odd, total=len(slides))}; name one view"
        )
    chosen = names if wanted is None else (wanted,)
    lacking = [slide for slide in slides if any(name not in files[slide] for name in chosen)]
    if lacking:
        raise SourceError(
            f"{path}: view {wanted!r} is missing in {name_some(lacking, total=len(slides))}"
        )
    bags = tuple(
        _slide(path, slide, {name: files[slide][name] for name in chosen}, table)
        for slide in slides
    )
    note = f"view {chosen[0]} stands as the identity, further views: {len(chosen) - 1}"
    return bags, (IDENTITY_VIEW, *(f"view {name}" for name in chosen[1:])), note


def _slide(
    path: Path, slide: str, views: Mapping[str, Path], table: LabelTable | None
) -> SourceBag:
    specs = {name: describe_npy(file) for name, file in views.items()}
    first, *others = specs.values()
    if any(spec != first for spec in others):
        raise SourceError(
            f"slide {slide!r}: its views differ in number, width or dtype; name one view"
        )
    places = [path / COORDS_DIR / slide / f"{name}.npy" for name in views]
    missing = [str(place) for place in places if not place.is_file()]
    if missing and (path / COORDS_DIR).is_dir():
        raise SourceError(f"slide {slide!r} has no coordinates: {name_some(missing)}")
    for file, place in zip(views.values(), [] if missing else places, strict=bool(not missing)):
        found = describe_npy(place)
        if (found.num_instances, found.feature_shape) != (first.num_instances, (2,)):
            raise SourceError(
                f"{place} has shape {(found.num_instances, *found.feature_shape)}, expected "
                f"({first.num_instances}, 2) for the rows of {file}"
            )
    return SourceBag(
        bag_id=slide,
        place=str(path / TILES_DIR / slide),
        spec=first,
        load=partial(_load, tuple(views.values()), () if missing else tuple(places)),
        label=table.labels.get(slide) if table else None,
        attributes=dict(table.attributes.get(slide, {})) if table else {},
    )


def _load(views: Sequence[Path], places: Sequence[Path]) -> Content:
    features = [load_npy(file) for file in views]
    coords = [load_npy(file) for file in places]
    for file, values in zip(places[1:], coords[1:], strict=True):
        if not np.array_equal(values, coords[0]):
            raise SourceError(
                f"{file} has other places than {places[0].name}: the views show different tiles "
                "and cannot be views of the same instances; name one view"
            )
    return Content(
        features=features[0],
        views=np.stack(features[1:]) if len(features) > 1 else None,
        coords=coords[0] if coords else None,
    )


def _embeddings(path: Path, table: LabelTable | None) -> tuple[SourceBag, ...]:
    features = load_npy(path / EMBEDDINGS_FILE)
    ids: NDArray[Any] = load_npy(path / IDS_FILE)
    if ids.ndim != 1 or features.ndim != 2 or len(ids) != len(features):
        raise SourceError(
            f"{path}: {EMBEDDINGS_FILE} has shape {features.shape}, {IDS_FILE} {ids.shape}; "
            "expected (B, D) and (B,)"
        )
    names = [str(name) for name in ids.astype(str).tolist()]
    check_distinct(names, place=str(path / IDS_FILE))
    spec = FeatureSpec(num_instances=1, feature_shape=features.shape[1:], dtype=features.dtype.name)
    return tuple(
        SourceBag(
            bag_id=name,
            place=f"{path / EMBEDDINGS_FILE} row {i}",
            spec=spec,
            load=partial(_row, features, i),
            label=table.labels.get(name) if table else None,
            attributes=dict(table.attributes.get(name, {})) if table else {},
        )
        for i, name in enumerate(names)
    )


def _row(features: NDArray[Any], i: int) -> Content:
    return Content(features=features[i : i + 1])
