"""Every call to the operating system on the write path, and the reading of whole files.

The modules above never touch the file system while writing: what a killed process, a full disk or
lost power can leave behind is decided here, and a test that replaces this module's ``os`` can make
each call fail. Names are ``os`` functions rather than ``Path`` methods for that reason.
"""

# ruff: noqa: PTH102, PTH104

import errno
import os
import secrets
import shutil
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

PARTIAL_SUFFIX = ".partial"
NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


def make_dir(path: Path) -> None:
    """Create a folder; one that is there already is fine."""
    try:
        os.mkdir(path)
    except FileExistsError:
        if not path.is_dir():
            raise


def make_parents(path: Path) -> None:
    """Create and sync the folders above a path that are missing."""
    for folder in reversed(path.parents):
        if not folder.exists():
            make_dir(folder)
            sync_dir(folder.parent)


def stage_name() -> str:
    """Name a folder under ``.tmp`` that no other writer has: host, process, random."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(8)}"


def durable_write(path: Path, data: bytes | memoryview) -> None:
    """Write a new file, sync it, and only then give it its name."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    _write(partial, data, os.O_TRUNC)
    os.rename(partial, path)


def _write(path: Path, data: bytes | memoryview, flag: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | flag, 0o666)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_dir(path: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def move_dir(source: Path, target: Path) -> None:
    """Rename a folder; the caller syncs the folder above.

    Raises:
        FileExistsError: the target is a folder with content.
    """
    try:
        os.rename(source, target)
    except OSError as error:
        if not isinstance(error, FileExistsError) and target.is_dir() and any(target.iterdir()):
            raise FileExistsError(*error.args) from error
        raise


def move_file(source: Path, target: Path) -> None:
    """Rename a synced file, in place of one of that name; the caller syncs the folder."""
    os.rename(source, target)


def publish_file(source: Path, target: Path) -> None:
    """Give a synced file a second name that nobody else may have taken.

    Raises:
        FileExistsError: the target is there already.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        _write(target, source.read_bytes(), os.O_EXCL)
    sync_dir(target.parent)


def remove_dir(path: Path) -> None:
    """Remove a folder that nobody reads any more; what cannot be removed stays under ``.tmp``."""
    shutil.rmtree(path, ignore_errors=True)


def append_line(path: Path, line: bytes) -> None:
    """Append one line in one call; a torn line before it is ended first."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        os.write(descriptor, b"\n" * torn + line + b"\n")
    finally:
        os.close(descriptor)


def read_bytes(path: Path, *, max_bytes: int) -> NDArray[np.uint8]:
    """Read a whole regular file into memory of its own.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, longer than the limit, or changes while it is read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # opening a pipe must not wait
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_size > max_bytes:
            raise ValueError(f"it has {status.st_size} bytes, expected at most {max_bytes}")
        data = np.empty(status.st_size, dtype=np.uint8)
        rest = data.data
        while rest:
            count = file.readinto(rest)
            if not count:
                raise ValueError("it was cut while it was read")
            rest = rest[count:]
    return data


@contextmanager
def noting(message: str) -> Iterator[None]:
    """Add what was being done to an error of the operating system."""
    try:
        yield
    except OSError as error:
        error.add_note(message)
        raise


def tree_bytes(path: Path) -> int:
    """Sum the sizes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(FileNotFoundError):
                total += (Path(folder) / name).lstat().st_size
    return total
