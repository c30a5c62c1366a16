"""Signals that end a run at its next good place, with everything kept."""

import os
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import TypeVar

Record = TypeVar("Record")
STDERR = 2
STOPPING = b"\nstopping at the next good place; a second signal stops at once\n"


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Let SIGTERM and the first Ctrl-C be asked for instead of raised.

    Yields:
        Whether one has come.
    """
    received: list[int] = []

    def take(number: int, _: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        os.write(STDERR, STOPPING)  # a signal may come in the middle of a print

    before = {number: signal.signal(number, take) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until_stopped(records: Generator[Record]) -> Iterator[Record]:
    """Pass records through, and close their source between two of them where a signal has come.

    Raises:
        KeyboardInterrupt: A signal has come.
    """
    with stop_signals() as is_stopping, closing(records):
        for record in records:
            yield record
            if is_stopping():
                raise KeyboardInterrupt
