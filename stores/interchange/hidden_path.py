"""What is exported appears under its name only when it is whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from stores import files
from stores.staged_store import refuse_existing


@contextmanager
def hidden_path(path: Path) -> Iterator[Path]:
    """Hand out a hidden name for a file or folder; it is renamed at the end, or removed.

    Folders above that are missing are made.

    Raises:
        StoreExistsError: there is something at the path already.
    """
    refuse_existing(path)
    with files.noting(f"while writing {path}"):
        files.make_parents(path)
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
