"""An ordered map over threads that looks only a bounded way ahead."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# A thread is handed several items at once: waking it for each small one, and taking turns at the
# interpreter, cost as much as a cell's decoding.
MAX_TOGETHER = 16


def count_together(*, workers: int, lookahead: int) -> int:
    """Say how many items a worker is handed at once, so that each finds a second helping."""
    return min(max(lookahead // (2 * workers), 1), MAX_TOGETHER)


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, lookahead: int
) -> Generator[Result, None, None]:
    """Apply a function in threads; results come in the order of the items.

    Args:
        function: Called once for each item; what it raises is raised at that item's turn.
        items: Drawn from only as far as ``lookahead`` allows.
        workers: Number of threads.
        lookahead: How many items may be under way or waiting to be taken.

    Yields:
        The result for each item.
    """
    together = count_together(workers=workers, lookahead=lookahead)
    source = iter(items)
    executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="cells")
    waiting: deque[Future[tuple[list[Result], Exception | None]]] = deque()
    try:
        while True:
            while len(waiting) < max(lookahead // together, 1):
                if not (part := list(islice(source, together))):
                    break
                waiting.append(executor.submit(_apply, function, part))
            if not waiting:
                return
            results, error = waiting.popleft().result()
            yield from results
            if error is not None:
                raise error
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _apply(
    function: Callable[[Item], Result], items: Sequence[Item]
) -> tuple[list[Result], Exception | None]:
    """Apply a function to items up to the first at which it raises."""
    results: list[Result] = []
    try:
        results += map(function, items)
    except Exception as error:  # noqa: BLE001  (raised at its turn)
        return results, error
    return results, None
