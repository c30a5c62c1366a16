"""Neighbours' feature files as stores, and stores as neighbours' files; one module a neighbour."""

from stores.interchange.errors import (
    ExportError,
    InterchangeError,
    InterchangeUsageError,
    SourceError,
)
from stores.interchange.exporting import ExportedBag
from stores.interchange.importing import ImportedBag, import_source, manifest_for
from stores.interchange.registry import EXPORTERS, IMPORTERS, Exporter, Importer, check_options
from stores.interchange.source import (
    Content,
    FeatureSpec,
    Finding,
    ImportOptions,
    Source,
    SourceBag,
)

__all__ = [
    "EXPORTERS",
    "IMPORTERS",
    "Content",
    "ExportError",
    "ExportedBag",
    "Exporter",
    "FeatureSpec",
    "Finding",
    "ImportOptions",
    "ImportedBag",
    "Importer",
    "InterchangeError",
    "InterchangeUsageError",
    "Source",
    "SourceBag",
    "SourceError",
    "check_options",
    "import_source",
    "manifest_for",
]
