"""An ordered map over threads that looks only a bounded way ahead."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    source = iter(items)
    executor = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="cells")
    try:
        waiting: deque[Future[Result]] = deque(
            executor.submit(function, item) for item in islice(source, lookahead)
        )
        while waiting:
            result = waiting.popleft().result()
            for item in islice(source, 1):
                waiting.append(executor.submit(function, item))
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
