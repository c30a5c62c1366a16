"""Progress bars for generators that yield a record per batch, bag or epoch."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Record = TypeVar("Record")


def with_bar(
    records: Iterable[Record], *, total: int, unit: str, description: str, done: str | None = None
) -> Iterator[Record]:
    """Pass records through and draw how far they are, how fast, and how long it will take.

    Args:
        records: Work in progress.
        total: Units of work in all.
        unit: What is counted, as shown behind the rate.
        done: Attribute of a record that holds the units done so far; without it a record is a unit.
        description: Stands before the bar.

    Yields:
        The records, unchanged.
    """
    is_terminal = sys.stderr.isatty()
    with tqdm(
        total=total,
        unit=unit,
        desc=description,
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.2 if is_terminal else 10.0,
    ) as bar:
        for record in records:
            bar.update(1 if done is None else getattr(record, done) - bar.n)
            yield record
