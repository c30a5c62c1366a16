"""What is written appears under its name only when it is whole."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from stores import files
from stores.base import FeatureStore
from stores.errors import StoreError, StoreMismatchError
from stores.interchange.errors import ExportError, InterchangeError, InterchangeUsageError
from stores.open import SUFFIXES, create_store
from stores.schema import Manifest


@contextmanager
def staged_store(path: Path, manifest: Manifest) -> Iterator[FeatureStore]:
    """Hand out a store under a hidden name, and give it its own at the end.

    Bad data (a ``StoreError``) removes it; any other interruption leaves it to be taken up again.

    Raises:
        ExportError: there is something at the path already.
        InterchangeError: another process is at it.
        InterchangeUsageError: the suffix names no format.
    """
    if path.suffix not in SUFFIXES:
        raise InterchangeUsageError(
            f"a store's name ends in {' or '.join(SUFFIXES)}, got {path.name!r}"
        )
    refuse_existing(path)
    hidden = path.with_name(f".{path.stem}.importing{path.suffix}")
    try:
        store = create_store(hidden, manifest)
    except StoreMismatchError:  # left by an interrupted import of something else
        with _locked(hidden):
            files.remove_dir(hidden)
        store = create_store(hidden, manifest)
    with store, _locked(hidden):
        try:
            yield store
        except StoreError:
            files.remove_dir(hidden)
            raise
        files.move_dir(hidden, path)
        files.sync_dir(path.parent)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second process out of a folder; the lock ends with the process."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InterchangeError(
                f"another process is importing into {folder}; wait for it or choose another name"
            ) from error
        yield
    finally:
        os.close(descriptor)


def refuse_existing(path: Path) -> None:
    """Refuse to write over anything.

    Raises:
        ExportError: there is something at the path.
    """
    if path.exists() or path.is_symlink():
        raise ExportError(f"{path} is there already; choose another name or remove it")


@contextmanager
def staged_path(path: Path) -> Iterator[Path]:
    """Hand out a hidden name for a file or folder; it is renamed at the end, or removed.

    Raises:
        ExportError: there is something at the path already.
    """
    refuse_existing(path)
    hidden = path.with_name(f".{path.stem}.exporting-{uuid4().hex[:8]}{path.suffix}")
    try:
        yield hidden
        refuse_existing(path)
        hidden.rename(path)
    finally:
        if hidden.is_dir():
            files.remove_dir(hidden)
        else:
            hidden.unlink(missing_ok=True)
    files.sync_dir(path.parent)
