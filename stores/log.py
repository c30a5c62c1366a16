"""The store's log: one JSON object per line, outside the bags so that bags are reproducible.

Each line carries a checksum, so that a count taken from the log is never a damaged one.
"""

import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import google_crc32c

from stores import files
from stores.documents import CHECKSUM_KEY, JSON, as_json

RESERVED_KEYS = ("time", "host", CHECKSUM_KEY)


def append_event(path: Path, event: Mapping[str, JSON]) -> None:
    """Append an event with time (UTC) and host.

    Raises:
        ValueError: the event is not plain JSON, or brings its own time or host.
        OSError: the log cannot be written.
    """
    line = spell_event(event)
    with files.noting(f"while appending to {path}"):
        files.append_line(path, line)


def spell_event(event: Mapping[str, JSON]) -> bytes:
    """Spell an event with time (UTC) and host, as one line without its end.

    Raises:
        ValueError: the event is not plain JSON, or brings its own time or host.
    """
    fields = as_json(event, "event")
    assert isinstance(fields, dict)
    taken = [key for key in RESERVED_KEYS if key in fields]
    if taken:
        raise ValueError(f"the log adds {', '.join(taken)} itself; give the event another key")
    time = datetime.now(UTC).isoformat(timespec="milliseconds")
    return _spell({"time": time, "host": socket.gethostname(), **fields})


def _spell(fields: Mapping[str, JSON]) -> bytes:
    """Put a checksum behind the fields."""
    text = json.dumps(fields, ensure_ascii=False)
    checksum = f"{google_crc32c.value(text.encode()):08x}"
    return json.dumps({**fields, CHECKSUM_KEY: checksum}, ensure_ascii=False).encode()


def read_events(path: Path) -> tuple[dict[str, JSON], ...]:
    """Read all events; a torn or damaged line comes back as ``{"unreadable": text}``."""
    if not path.exists():
        return ()
    return read_lines(path.read_bytes())


def read_lines(data: bytes) -> tuple[dict[str, JSON], ...]:
    """Read the events of lines; see ``read_events``."""
    return tuple(_read_line(line) for line in data.split(b"\n") if line)


def _read_line(line: bytes) -> dict[str, JSON]:
    try:
        event = json.loads(line.decode())
        if isinstance(event, dict):
            event.pop(CHECKSUM_KEY, None)
            if _spell(event) == line:
                return event
    except (ValueError, RecursionError):
        pass
    return {"unreadable": line.decode(errors="replace")}
