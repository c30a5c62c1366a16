"""Whole patients shared out among the processes of a run, and what they tell each other.

With a single process every function is the identity.
"""

import heapq
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist

from aml_mil.cohort import Patient
from aml_mil.embedding.errors import EmbedError
from aml_mil.ranks import num_ranks, rank

Value = TypeVar("Value")

BACKEND = "gloo"  # what is told is small, and is told from memory
PATIENCE = timedelta(days=7)  # the processes meet at the end only, some hours before others


def count_cells(patient: Patient) -> int:
    """Count the files of a patient."""
    return len(patient.cells)


def share_out(
    patients: Sequence[Patient],
    *,
    num_shares: int,
    work_of: Callable[[Patient], int] = count_cells,
) -> tuple[tuple[Patient, ...], ...]:
    """Share out whole patients so that every share is about as much work.

    The longest comes first, to the share that has the least; equal calls give equal shares.

    Args:
        patients: In any order.
        num_shares: At least 1.
        work_of: How much work a patient is.

    Returns:
        The shares, each in the order of the patients.

    Source:
        Graham 1969, longest processing time first, https://doi.org/10.1137/0117039
    """
    places = sorted(range(len(patients)), key=lambda place: (-work_of(patients[place]), place))
    shares: list[list[int]] = [[] for _ in range(num_shares)]
    loads = [(0, number) for number in range(num_shares)]
    for place in places:
        load, number = heapq.heappop(loads)
        shares[number].append(place)
        heapq.heappush(loads, (load + work_of(patients[place]), number))
    return tuple(tuple(patients[place] for place in sorted(share)) for share in shares)


def own_share(
    patients: Sequence[Patient], *, work_of: Callable[[Patient], int] = count_cells
) -> tuple[Patient, ...]:
    """Give this process its share; see `share_out`."""
    return share_out(patients, num_shares=num_ranks(), work_of=work_of)[rank()]


def tell_all(value: Value) -> Value:
    """Give every process the value of the first.

    Raises:
        EmbedError: Another process has ended.
    """
    if num_ranks() == 1:
        return value
    box: list[Value] = [value]
    with _saying_who_left():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def gather(value: Value) -> list[Value]:
    """Bring the values of all processes to the first; the others get none.

    Raises:
        EmbedError: Another process has ended.
    """
    if num_ranks() == 1:
        return [value]
    parts: list[Value | None] | None = [None] * num_ranks() if rank() == 0 else None
    with _saying_who_left():
        dist.gather_object(value, parts, dst=0)
    return [part for part in parts or () if part is not None]


@contextmanager
def _saying_who_left() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        message = (
            "another process of this run has ended early; the bags that were finished are in the "
            "store: run the same command again, it goes on"
        )
        raise EmbedError(message) from error
