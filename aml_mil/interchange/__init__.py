"""Import and export of every neighbour, those that need torch included."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from aml_mil.interchange.clam import export_clam, open_clam
from aml_mil.interchange.slideflow import open_slideflow
from stores import FeatureStore, interchange
from stores.interchange import (
    ExportedBag,
    Exporter,
    Importer,
    ImportOptions,
    Source,
    check_options,
)
from stores.interchange.registry import LABEL_OPTIONS

IMPORTERS: Mapping[str, Importer] = {
    **interchange.IMPORTERS,
    "clam": Importer(open=open_clam, options=LABEL_OPTIONS),
    "slideflow": Importer(open=open_slideflow, options=LABEL_OPTIONS),
}

EXPORTERS: Mapping[str, Exporter] = {**interchange.EXPORTERS, "clam": export_clam}


def open_source(layout: str, path: Path, options: ImportOptions | None = None) -> Source:
    """Describe a neighbour's features, ready for `stores.interchange.import_source`.

    Args:
        layout: A key of `IMPORTERS`.
        path: The neighbour's folder or file.
        options: What the path does not say.

    Raises:
        SourceError: the files are not as that neighbour writes them.
        InterchangeUsageError: an option has no effect on that layout.
    """
    options = options or ImportOptions()
    importer = IMPORTERS[layout]
    check_options(layout, options, importer.options)
    return importer.open(path, options)


def export_store(store: FeatureStore, layout: str, path: Path) -> Iterator[ExportedBag]:
    """Write a store in a neighbour's layout; nothing is there under its name until all is.

    Args:
        store: What to write.
        layout: A key of `EXPORTERS`.
        path: New file or folder.

    Yields:
        A record per bag.

    Raises:
        ExportError: the layout cannot hold the store.
        StoreExistsError: there is something at the path already.
    """
    return EXPORTERS[layout](store, path)


__all__ = ["EXPORTERS", "IMPORTERS", "export_store", "open_source"]
