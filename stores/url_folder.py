"""The calls that a store at a URL needs: objects put and read whole, no renames, no appends."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
from numpy.typing import NDArray

from stores.errors import StoreError

PLAIN_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, ValueError)


class UrlFolder:
    """Objects below a URL.

    Args:
        url: Of the folder.

    Raises:
        StoreError: no file system is known for the URL, or its package is not installed.
    """

    def __init__(self, url: Path) -> None:
        self._url = url
        try:
            self._files, self._root = fsspec.url_to_fs(str(url), use_listings_cache=False)
        except ImportError as error:
            raise StoreError(
                f"{url} needs a package that is not installed ({error}); for s3:// it is in "
                "pip install 'aml-mil[s3]'"
            ) from error
        except ValueError as error:
            raise StoreError(f"no file system is known for {url}: {error}") from error

    def read(self, name: str, *, max_bytes: int) -> NDArray[np.uint8]:
        """Read a whole object.

        Raises:
            FileNotFoundError: there is none.
            ConnectionError: it cannot be reached.
            ValueError: it is longer than the limit.
        """
        with self._reaching("reading", name):
            try:
                data = self._files.cat_file(self._path(name), start=0, end=max_bytes + 1)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                data = b""  # S3 has no range of an empty object
        if len(data) > max_bytes:
            raise ValueError(f"it has over {max_bytes} bytes")
        return np.frombuffer(bytearray(data), dtype=np.uint8)

    def put(self, contents: Mapping[str, bytes | memoryview]) -> None:
        """Put objects, in place of others of their names; several at once where that is known.

        Raises:
            ConnectionError: they cannot be reached; any part of them may be there.
        """
        with self._reaching("writing", next(iter(contents), "")):
            for name in contents:
                self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            self._files.pipe({self._path(name): bytes(data) for name, data in contents.items()})

    def put_new(self, name: str, data: bytes) -> bool:
        """Put an object unless there is one; say whether this call did."""
        with self._reaching("writing", name):
            if self._files.exists(self._path(name)):
                return False
            self._files.makedirs(self._path(name).rpartition("/")[0], exist_ok=True)
            try:
                self._files.pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                return False
        return True

    def exists(self, name: str) -> bool:
        """Say whether there is an object."""
        with self._reaching("looking for", name):
            return bool(self._files.exists(self._path(name)))

    def sizes(self, name: str = "") -> dict[str, int]:
        """List all objects below a folder, with their sizes in bytes."""
        with self._reaching("listing", name):
            found = self._files.find(self._path(name), detail=True)
        start = len(self._root.rstrip("/")) + 1
        return {path[start:]: int(entry["size"] or 0) for path, entry in found.items()}

    def remove(self, names: list[str]) -> None:
        """Remove objects; one that is gone already is fine."""
        with self._reaching("removing", names[0] if names else ""):
            for name in names:
                if self._files.exists(self._path(name)):
                    self._files.rm_file(self._path(name))

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    @contextmanager
    def _reaching(self, doing: str, name: str) -> Iterator[None]:
        """Make one error of the many that clients raise when a connection is cut."""
        try:
            yield
        except PLAIN_ERRORS:
            raise
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ConnectionError(
                f"{self._url} cannot be reached ({doing} {name or 'it'}: {reason}); what was "
                "committed stays: run the same command again, it goes on"
            ) from error
