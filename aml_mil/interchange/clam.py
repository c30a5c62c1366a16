"""CLAM with its ``pt_files``: the layout is `stores.interchange.clam`'s, the tensors torch's."""

from collections.abc import Iterator
from pathlib import Path

from aml_mil.interchange.tensors import TorchFiles
from stores import FeatureStore
from stores.interchange import ExportedBag, ImportOptions, Source
from stores.interchange.clam import export_clam as export_folders
from stores.interchange.clam import open_clam as open_folders


def open_clam(path: Path, options: ImportOptions) -> Source:
    """Describe the features CLAM wrote, as ``.h5`` or, where there are none, as ``.pt``."""
    return open_folders(path, options, tensors=TorchFiles())


def export_clam(store: FeatureStore, path: Path) -> Iterator[ExportedBag]:
    """Write a store as CLAM's ``h5_files``, ``pt_files`` and labels."""
    return export_folders(store, path, tensors=TorchFiles())
