"""A store that appears under its name only when it is whole, and can be continued until then."""

import fcntl
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from stores import files
from stores.base import FeatureStore
from stores.errors import StoreError, StoreExistsError, StoreMismatchError
from stores.location import is_url
from stores.open import check_suffix, create_store
from stores.schema import Manifest


def staged_path(path: Path) -> Path:
    """Name the hidden folder beside ``path`` in which a store grows."""
    return path.with_name(f".{path.stem}.growing{path.suffix}")


@contextmanager
def staged_store(
    path: Path,
    manifest: Manifest,
    *,
    bag_ids: Collection[str],
    discard_on: type[Exception] | tuple[()] = (),
) -> Iterator[FeatureStore]:
    """Hand out a store under a hidden name, and give it its own at the end.

    Interrupted it keeps the hidden name, and the next call for the same path and manifest
    continues it. At a URL, where nothing can be renamed, it has its own name from the start.

    Args:
        path: Of the new store.
        manifest: Of the new store.
        bag_ids: Of the bags it is to hold; what an interrupted call for others left is removed.
        discard_on: Errors after which there is nothing to continue: the hidden store is removed.

    Raises:
        ValueError: the suffix names no format.
        StoreExistsError: there is something at the path already.
        StoreError: another process is at it.
    """
    check_suffix(path)
    if is_url(path):
        yield from _at_url(path, manifest, bag_ids)
        return
    refuse_existing(path)
    hidden = staged_path(path)
    with files.noting(f"while creating the store {path}"):
        files.make_parents(hidden)
        files.make_dir(hidden)
    with _locked(hidden):
        store = _create_or_continue(hidden, manifest)
        try:
            with store:
                for stale in sorted(set(store.bag_ids) - set(bag_ids)):
                    store.delete(stale)
                yield store
        except discard_on:
            files.remove_dir(hidden)
            raise
        except Exception as error:
            error.add_note(f"what is done is kept in {hidden}; the same command continues it")
            raise
        refuse_existing(path)
        files.move_dir(hidden, path)
        files.sync_dir(path.parent)


def _at_url(url: Path, manifest: Manifest, bag_ids: Collection[str]) -> Iterator[FeatureStore]:
    """Fill a store at a URL in its place: there are no renames, and no locks.

    What an interrupted call left has no other bags, and no log yet: that is written at the end.
    """
    store = create_store(url, manifest)
    has_others = not set(bag_ids).issuperset(store.bag_ids)
    if store.manifest != manifest or has_others or store.read_log():
        raise StoreExistsError(f"{url} is there already; choose another name or remove it")
    try:
        with store:
            yield store
    except Exception as error:
        error.add_note(f"what is done is kept in {url}; the same command continues it")
        raise


def _create_or_continue(hidden: Path, manifest: Manifest) -> FeatureStore:
    try:
        store = create_store(hidden, manifest)
        if store.manifest == manifest:
            return store
    except StoreMismatchError:
        pass
    for entry in list(hidden.iterdir()):  # left by an interrupted call for another store
        if entry.is_dir() and not entry.is_symlink():
            files.remove_dir(entry)
        else:
            entry.unlink()
    return create_store(hidden, manifest)


def refuse_existing(path: Path) -> None:
    """Refuse to write over anything.

    Raises:
        StoreExistsError: there is something at the path.
    """
    if path.exists() or path.is_symlink():
        raise StoreExistsError(f"{path} is there already; choose another name or remove it")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second process out of a folder; the lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StoreError(
                f"another process is writing {folder}; wait for it or choose another name"
            ) from error
        yield
    finally:
        os.close(descriptor)
