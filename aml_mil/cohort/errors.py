"""Errors of a cohort on disk: messages say what was expected, found, where, and what to do."""

from collections.abc import Iterable

from aml_mil.errors import AmlMilError

MAX_NAMED = 5


class CohortError(AmlMilError):
    """Something in a cohort on disk is not as it must be."""


class LayoutError(CohortError):
    """Folders or files are missing, empty, or where they do not belong."""


class TableError(CohortError):
    """A CSV table cannot be read, lacks a column, or contradicts itself."""


class FilterError(CohortError):
    """A filter asks for classes or columns that the cohort does not have."""


class FoldsError(CohortError):
    """Folds cannot be made, read, or used for these patients."""


class DamagedImageError(CohortError):
    """A file is not a usable cell image: truncated, undecodable, too small, a whole field."""


def name_some(names: Iterable[str], *, total: int | None = None) -> str:
    """Name at most five items and say how many there are.

    Args:
        names: The offending items, in the order to show.
        total: How many items were checked; the count is put in proportion to it.

    Returns:
        For example ``AQK, BZF (2 of 189)``, or ``A, B, C, D, E, … (7)``.
    """
    listed = list(names)
    shown = ", ".join(listed[:MAX_NAMED])
    if len(listed) > MAX_NAMED:
        shown += ", …"
    count = f"{len(listed)}" if total is None else f"{len(listed)} of {total}"
    return f"{shown} ({count})"
