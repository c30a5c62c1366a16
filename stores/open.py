"""Create and open stores: the suffix decides the format once, the content ever after."""

from collections.abc import Mapping
from pathlib import Path

from stores import files
from stores.base import FeatureStore
from stores.errors import NotAStoreError, StoreDamagedError
from stores.hdf5_store import Hdf5Store
from stores.local_store import LOG_FILE, STAGING_DIR, LocalStore
from stores.location import is_url, locate
from stores.manifest_file import (
    MANIFEST_FILE,
    check_same_identity,
    encode_manifest,
    publish_manifest,
    read_manifest,
)
from stores.place import BAGS_DIR
from stores.schema import SCHEMA_VERSION, Manifest
from stores.url_folder import UrlFolder
from stores.url_store import create_url_store, open_url_store
from stores.zarr_layout import METADATA_FILE, group_document
from stores.zarr_store import ZarrStore, group_documents

FORMATS: Mapping[str, type[LocalStore]] = {
    ZarrStore.layout.format: ZarrStore,
    Hdf5Store.layout.format: Hdf5Store,
}
SUFFIXES: Mapping[str, type[LocalStore]] = {".zarr": ZarrStore, ".h5store": Hdf5Store}
SKELETON = frozenset({BAGS_DIR, STAGING_DIR, METADATA_FILE, LOG_FILE, MANIFEST_FILE})


def open_store(path: Path | str) -> FeatureStore:
    """Open a store for reading and writing; nothing is written by opening it.

    Raises:
        NotAStoreError: the path holds no store.
        StoreDamagedError: its manifest is damaged.
        StoreVersionError: a newer release wrote it.
    """
    path = locate(path)
    if is_url(path):
        return open_url_store(path)
    manifest, store_format = read_manifest(path)
    if store_format not in FORMATS:
        raise StoreDamagedError(path, f"{MANIFEST_FILE} names the format {store_format!r}")
    return FORMATS[store_format](path, manifest)


def create_store(path: Path | str, manifest: Manifest) -> FeatureStore:
    """Create a store, or open one that was made in the same way.

    Two processes may create one store at once: the first manifest stands, the other is compared.

    Args:
        path: Ends in ``.zarr`` or ``.h5store``; folders above are made. A URL that fsspec knows
            ends in ``.zarr``.
        manifest: How the features are made.

    Raises:
        ValueError: the suffix names no format.
        NotAStoreError: the folder holds something else.
        StoreMismatchError: the store there holds features made in another way.
        StoreDamagedError: there are bags, but no manifest.
    """
    path = locate(path)
    check_suffix(path)
    if manifest.schema_version != SCHEMA_VERSION:
        raise ValueError(f"only version {SCHEMA_VERSION} is written, got {manifest.schema_version}")
    if is_url(path):
        return create_url_store(path, manifest)
    kind = SUFFIXES[path.suffix]
    if not (path / MANIFEST_FILE).exists():
        with files.noting(f"while creating the store {path}"):
            _create(path, manifest, kind)
    store = open_store(path)
    check_same_identity(path, store.manifest, manifest)
    return store


def check_suffix(path: Path) -> None:
    """Refuse a name from which no format follows.

    Raises:
        ValueError: the suffix names no format.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"a store's name ends in {' or '.join(SUFFIXES)}, got {path.name!r}")


def open_or_create_store(path: Path | str, manifest: Manifest) -> FeatureStore:
    """Open the store if it is there and was made in the same way, else create it.

    Raises:
        StoreMismatchError: the store there holds features made in another way.
    """
    return create_store(path, manifest)


def _create(path: Path, manifest: Manifest, kind: type[LocalStore]) -> None:
    if path.exists() and not path.is_dir():
        raise NotAStoreError(f"{path} is a file, not a feature store; choose another name")
    data = encode_manifest(manifest, kind.layout.format)
    files.make_parents(path)
    files.make_dir(path)
    _check_room(path)
    write_frame(path, kind)  # the manifest must not survive what it stands for
    staged = path / STAGING_DIR / files.stage_name()
    publish_manifest(path, staged, data)
    files.sync_dir(path.parent)


def write_frame(path: Path, kind: type[FeatureStore]) -> None:
    """Write and sync the folders and group documents around the bags, in place of damaged ones."""
    for folder in (path / BAGS_DIR, path / STAGING_DIR):
        files.make_dir(folder)
    if kind is ZarrStore:
        staged = path / STAGING_DIR / files.stage_name()
        for document in group_documents(path):
            files.durable_write(staged, group_document())
            files.move_file(staged, document)
    for folder in (path / BAGS_DIR, path):
        files.sync_dir(folder)


def _check_room(path: Path) -> None:
    """Refuse to build a store around files that are not a store's."""
    foreign = sorted(entry.name for entry in path.iterdir() if entry.name not in SKELETON)
    if foreign:
        raise NotAStoreError(
            f"{path} exists and is no feature store, it holds {', '.join(foreign[:5])} "
            f"({len(foreign)} entries); choose another name"
        )
    bags = path / BAGS_DIR
    if bags.is_dir() and any(entry.is_dir() for entry in bags.iterdir()):
        if (path / MANIFEST_FILE).exists():
            return  # another process created the store a moment ago
        raise StoreDamagedError(path, f"it has bags but no {MANIFEST_FILE}")


def store_exists(path: Path | str) -> bool:
    """Say whether there is something at the place of a store."""
    path = locate(path)
    return UrlFolder(path).exists(MANIFEST_FILE) if is_url(path) else path.exists()
