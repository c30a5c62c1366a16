"""Files that are there completely or not at all."""

import csv
import io
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from stores.files import PARTIAL_SUFFIX, durable_write


def write_file(path: Path, data: bytes) -> None:
    """Write a file under another name, sync it, and give it its name; an older one is replaced.

    Where this fails the older one stays, and nothing half-written beside it. What a killed process
    leaves, ``<name>.partial``, the next one writes over.

    Raises:
        OSError: The disk is full, or the folder cannot be written.
    """
    if path.exists() and not path.is_file():
        path.write_bytes(data)  # a pipe, such as /dev/stdout, keeps its name
        return
    target = path.resolve()
    try:
        durable_write(target, data)
    except BaseException:
        with suppress(OSError):
            target.with_name(target.name + PARTIAL_SUFFIX).unlink(missing_ok=True)
        raise


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table; see `write_file`."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_file(path, text.getvalue().encode())
