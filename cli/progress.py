"""Progress bars for generators that yield a record per batch, bag or epoch."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TypeVar

from tqdm import tqdm

Record = TypeVar("Record")
Result = TypeVar("Result")


def with_bar(
    records: Iterable[Record],
    *,
    total: int | str,
    unit: str,
    description: str,
    done: str | None = None,
    is_shown: bool = True,
) -> Iterator[Record]:
    """Pass records through and draw how far they are, how fast, and how long it will take.

    Args:
        records: Work in progress.
        total: Units of work in all, or the attribute of the first record that holds them; then no
            bar is drawn where there is no record.
        unit: What is counted, as shown behind the rate.
        done: Attribute of a record that holds the units done so far; without it a record is a unit.
        description: Stands before the bar.
        is_shown: Whether the bar is drawn: among several processes by the first.

    Yields:
        The records, unchanged.
    """
    if isinstance(total, str):
        rest = iter(records)
        for first in rest:
            total, records = int(getattr(first, total)), chain([first], rest)
            break
        else:
            return
    is_terminal = sys.stderr.isatty()
    with tqdm(
        total=total,
        unit=unit,
        desc=description,
        file=sys.stderr,
        dynamic_ncols=True,
        mininterval=0.2 if is_terminal else 10.0,
        disable=not is_shown,
    ) as bar:
        for record in records:
            bar.update(1 if done is None else getattr(record, done) - bar.n)
            yield record
        bar.total = bar.n  # less than was thought, where heads stop early


def results_of(
    records: Iterable[object],
    kind: type[Result],
    *,
    total: int | str,
    unit: str,
    description: str,
    done: str | None = None,
) -> list[Result]:
    """Draw the bar over records of progress, and return the results that come among them.

    Args:
        records: Work in progress.
        kind: What a result is; every other record is progress.
        total: As of `with_bar`, and so are the others.
        unit: What is counted.
        description: Stands before the bar.
        done: Attribute of a record of progress that holds the units done so far.

    Returns:
        The results, in the order in which they came.
    """
    results: list[Result] = []

    def progress() -> Iterator[object]:
        for record in records:
            if isinstance(record, kind):
                results.append(record)
            else:
                yield record

    for _ in with_bar(progress(), total=total, unit=unit, description=description, done=done):
        pass
    return results
