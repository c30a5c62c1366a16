"""The calls that a store at a URL needs: objects put and read whole, no renames, no appends."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import fsspec
import numpy as np
from fsspec.asyn import AsyncFileSystem
from numpy.typing import NDArray

from stores.errors import StoreError

PLAIN_ERRORS = (
    StoreError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    ValueError,
)

# A client that waits for leave to send a body has no limit of its own, and waits for ever where
# the network has gone silent.
PATIENCE_S = 60
SLOWEST_BYTES_PER_S = 100_000

# s3fs tries anew what botocore has tried five times, and a read once more around that: in silence,
# with its own five rounds, half an hour. The second of these is for a body cut in the middle, which
# botocore does not see; a read that is not answered still takes some five minutes.
S3_ROUNDS = 2


class UrlFolder:
    """Objects below a URL.

    Args:
        url: Of the folder.

    Attributes:
        is_cut: Whether the last call could not reach it.

    Raises:
        StoreError: no file system is known for the URL, or its package is not installed.
    """

    def __init__(self, url: Path) -> None:
        self._url = url
        self.is_cut = False
        try:
            self._files, self._root = fsspec.url_to_fs(str(url), use_listings_cache=False)
        except ImportError as error:
            raise StoreError(
                f"{url} needs a package that is not installed ({error}); for s3:// it is in "
                "pip install 'aml-mil[s3]'"
            ) from error
        except ValueError as error:
            raise StoreError(f"no file system is known for {url}: {error}") from error
        self._is_s3 = "s3" in self._files.protocol
        if self._is_s3:
            self._files.retries = S3_ROUNDS

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
            self._pipe({self._path(name): bytes(data) for name, data in contents.items()})

    def put_new(self, name: str, data: bytes) -> bool:
        """Put an object unless there is one; say whether this call did."""
        with self._reaching("writing", name):
            if self._files.exists(self._path(name), **self._limit()):
                return False
            try:
                self._pipe({self._path(name): data}, mode="create")
            except FileExistsError:
                return False
        return True

    def exists(self, name: str) -> bool:
        """Say whether there is an object."""
        with self._reaching("looking for", name):
            return bool(self._files.exists(self._path(name), **self._limit()))

    def sizes(self, name: str = "") -> dict[str, int]:
        """List all objects below a folder, with their sizes in bytes."""
        with self._reaching("listing", name), self._in_a_bucket():
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

    def _pipe(self, objects: Mapping[str, bytes], **mode: str) -> None:
        limit = self._limit(sum(map(len, objects.values())))
        with self._in_a_bucket():
            try:
                self._files.pipe(objects, **mode, **limit)
            except FileNotFoundError:  # folders are asked for only where objects need them
                if self._is_s3:
                    raise
                for folder in {path.rpartition("/")[0] for path in objects}:
                    self._files.makedirs(folder, exist_ok=True)
                self._files.pipe(objects, **mode, **limit)

    def _limit(self, num_bytes: int = 0) -> dict[str, float]:
        """Say how long a call may take, in seconds, to clients that can be told."""
        if not isinstance(self._files, AsyncFileSystem):
            return {}
        return {"timeout": PATIENCE_S + num_bytes / SLOWEST_BYTES_PER_S}

    @contextmanager
    def _in_a_bucket(self) -> Iterator[None]:
        """Say what it means where a call that needs no object to be there finds nothing."""
        try:
            yield
        except FileNotFoundError as error:
            raise StoreError(
                f"{self._url}: there is no bucket or folder of that name; create it first, where "
                "and for whom it should be"
            ) from error

    @contextmanager
    def _reaching(self, doing: str, name: str) -> Iterator[None]:
        """Make one error of the many that clients raise when a connection is cut."""
        self.is_cut = False
        try:
            yield
        except PLAIN_ERRORS:
            raise
        except Exception as error:
            self.is_cut = True
            silence = "no answer in time" if isinstance(error, TimeoutError) else ""
            reason = " ".join(str(error).split()) or silence or type(error).__name__
            raise ConnectionError(
                f"{self._url} cannot be reached ({doing} {name or 'it'}: {reason}); what was "
                "committed stays: run the same command again, it goes on"
            ) from error
