"""Options of the commands that read a cohort."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from aml_mil.cohort import Cohort

Command = TypeVar("Command", bound=Callable[..., Any])


def cohort_options(command: Command) -> Command:
    """Give a command the options that choose and label patients."""
    for option in (
        click.option(
            "--min-malignant-percent",
            type=click.FloatRange(0, 100),
            metavar="PERCENT",
            help="Leave out AML patients with fewer myeloblasts + promyelocytes + myelocytes, "
            "in percent of blood cells. Hehr et al. use 20.",
        ),
        click.option(
            "--merge",
            multiple=True,
            metavar="A+B=NAME",
            help="Give patients of the labels A and B the label NAME; may be repeated.",
        ),
        click.option("--classes", metavar="A,B", help="Keep the patients of these labels only."),
    ):
        command = option(command)
    return command


def read_chosen_cohort(
    path: Path, *, classes: str | None, merge: tuple[str, ...], min_malignant_percent: float | None
) -> "Cohort":
    """Read a cohort with the patients and labels that the options ask for.

    Args:
        path: Folder in the MLL layout, or a table.
        classes: Labels to keep, comma-separated.
        merge: Rules such as ``A+B=NAME``.
        min_malignant_percent: Threshold of the malignant-cell filter.

    Returns:
        The cohort.

    Raises:
        click.UsageError: A merge rule is not of the form A+B=NAME.
        CohortError: The cohort cannot be read as asked.
    """
    from aml_mil.cohort import read_cohort

    return read_cohort(
        path,
        classes=[name.strip() for name in classes.split(",")] if classes else None,
        merge_labels=_parse_merges(merge) or None,
        min_malignant_percent=min_malignant_percent,
    )


def _parse_merges(rules: tuple[str, ...]) -> dict[str, str]:
    merged: dict[str, str] = {}
    for rule in rules:
        sources, separator, target = rule.rpartition("=")
        if not (separator and target and all(sources.split("+"))):
            raise click.UsageError(f"--merge: expected A+B=NAME, got {rule!r}")
        merged |= dict.fromkeys(sources.split("+"), target)
    return merged
