"""What can be wrong with a neighbour's files, or keeps a store from taking their form."""

from collections.abc import Sequence

from stores.errors import StoreError

MAX_NAMED = 5


class InterchangeError(StoreError):
    """Features cannot be brought in or taken out."""


class SourceError(InterchangeError):
    """The files to import are not what their layout promises."""


class ExportError(InterchangeError):
    """The store cannot be written in the neighbour's layout."""


class InterchangeUsageError(ValueError):
    """What was asked for cannot be meant: an option without effect, a name without a format."""


def name_some(items: Sequence[str], *, total: int | None = None) -> str:
    """Name the first five of a list and how many there are.

    Returns:
        ``a, b (2 of 189)`` with a total, ``a, b`` without; ``…`` stands for those not named.
    """
    named = ", ".join(items[:MAX_NAMED]) + (", …" if len(items) > MAX_NAMED else "")
    if total is not None:
        return f"{named} ({len(items)} of {total})"
    return f"{named} ({len(items)} in all)" if len(items) > MAX_NAMED else named
