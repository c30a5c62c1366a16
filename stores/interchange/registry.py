"""Neighbours by name: who is read how, who is written how."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from stores.base import FeatureStore
from stores.interchange.anndata import export_anndata, open_anndata
from stores.interchange.bags import export_bags, open_bags
from stores.interchange.clam import export_clam, open_clam
from stores.interchange.errors import InterchangeUsageError
from stores.interchange.exporting import ExportedBag
from stores.interchange.gigassl import open_gigassl
from stores.interchange.scemila import open_scemila
from stores.interchange.source import ImportOptions, Source
from stores.interchange.stamp import open_stamp
from stores.interchange.table import export_table, open_table
from stores.interchange.trident import export_trident, open_trident

LABEL_OPTIONS = frozenset({"labels", "id_column", "label_column", "allow_unknown_labels"})
COLUMN_OPTIONS = frozenset({"id_column", "label_column"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Importer:
    """How a neighbour is read.

    Attributes:
        open: Describes a source.
        options: Which options have a meaning for it.
    """

    open: Callable[[Path, ImportOptions], Source]
    options: frozenset[str]


Exporter = Callable[[FeatureStore, Path], Iterator[ExportedBag]]

IMPORTERS: Mapping[str, Importer] = {
    "clam": Importer(open=open_clam, options=LABEL_OPTIONS),
    "trident": Importer(open=open_trident, options=LABEL_OPTIONS),
    "stamp": Importer(open=open_stamp, options=LABEL_OPTIONS | {"slides"}),
    "scemila": Importer(open=open_scemila, options=LABEL_OPTIONS | {"prefix"}),
    "gigassl": Importer(open=open_gigassl, options=LABEL_OPTIONS | {"view"}),
    "bags": Importer(open=open_bags, options=LABEL_OPTIONS),
    "table": Importer(open=open_table, options=COLUMN_OPTIONS | {"dtype"}),
    "anndata": Importer(open=open_anndata, options=COLUMN_OPTIONS),
}

EXPORTERS: Mapping[str, Exporter] = {
    "clam": export_clam,
    "trident": export_trident,
    "anndata": export_anndata,
    "bags": export_bags,
    "table": export_table,
}


def check_options(layout: str, options: ImportOptions, accepted: frozenset[str]) -> None:
    """Refuse an option without effect.

    Raises:
        InterchangeUsageError: one was given that the layout knows nothing of.
    """
    default = ImportOptions()
    for item in fields(options):
        given = getattr(options, item.name)
        if given != getattr(default, item.name) and item.name not in accepted:
            raise InterchangeUsageError(f"{item.name} has no effect on {layout}; leave it out")
