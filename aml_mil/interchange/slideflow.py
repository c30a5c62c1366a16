"""slideflow: ``{slide}.pt`` with ``{slide}.index.npz`` (places) and ``bags_config.json``.

N instances, D features.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from aml_mil.interchange.tensors import TorchFiles
from stores.interchange import Content, ImportOptions, Source, SourceBag, SourceError
from stores.interchange.folders import files_of
from stores.interchange.npy_files import describe_npz, load_npz
from stores.interchange.tables import LabelTable, check_labels, labels_for, notes_on

CONFIG_FILE = "bags_config.json"
INDEX_SUFFIX = ".index.npz"
INDEX_KEY = "arr_0"
ID_COLUMN = "slide"
LABEL_COLUMNS = ("label", "category")


def open_slideflow(path: Path, options: ImportOptions) -> Source:
    """Describe the bags slideflow wrote.

    Args:
        path: The folder of bags.
        options: slideflow's annotations as ``labels``, names of its columns.

    Raises:
        SourceError: files, tables or arrays are not as slideflow writes them.
    """
    files = files_of(path, (".pt",))
    config = _config(path / CONFIG_FILE)
    table = labels_for(path, options, id_columns=(ID_COLUMN,), label_columns=LABEL_COLUMNS)
    bags = tuple(_bag(slide, file, table) for slide, file in files.items())
    width = config.get("num_features")
    for bag in bags:
        if width is not None and bag.spec.feature_shape != (width,):
            raise SourceError(
                f"{bag.place} has features of shape {bag.spec.feature_shape}, "
                f"{CONFIG_FILE} says {width}; extract the bags again"
            )
    extractor = config.get("extractor")
    name = extractor.get("class") if isinstance(extractor, dict) else None
    unknown = options.allow_unknown_labels
    return Source(
        importer="slideflow",
        path=path,
        encoder=name if isinstance(name, str) and name else None,
        bags=bags,
        facts={"bags_config": config} if config else {},
        findings=check_labels(table, tuple(files), allow_unknown=unknown),
        notes=notes_on(table),
    )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise SourceError(f"{path} holds no JSON object")
    return config


def _bag(slide: str, file: Path, table: LabelTable | None) -> SourceBag:
    spec = TorchFiles().describe(file)
    index = file.with_name(slide + INDEX_SUFFIX)
    if index.is_file():
        shape, _ = describe_npz(index).get(INDEX_KEY, ((), None))
        if shape != (spec.num_instances, 2):
            raise SourceError(
                f"{index}: {INDEX_KEY} has shape {shape}, expected ({spec.num_instances}, 2) "
                f"for the rows of {file.name}; extract the bag again"
            )
    return SourceBag(
        bag_id=slide,
        place=str(file),
        spec=spec,
        load=partial(_load, file, index if index.is_file() else None),
        label=table.labels.get(slide) if table else None,
        attributes=dict(table.attributes.get(slide, {})) if table else {},
    )


def _load(file: Path, index: Path | None) -> Content:
    coords = None if index is None else load_npz(index, [INDEX_KEY])[INDEX_KEY]
    return Content(features=TorchFiles().load(file), coords=coords)
