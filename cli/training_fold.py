"""What the commands that learn from a fold's training patients have in common."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.local_path import LocalPath

if TYPE_CHECKING:
    from aml_mil.cohort import FoldRoles

Command = TypeVar("Command", bound=Callable[..., Any])


def training_fold_options(command: Command) -> Command:
    """Add --folds and --fold."""
    command = click.option(
        "--fold", type=click.IntRange(min=0), help="Which fold of --folds, from 0."
    )(command)
    return click.option(
        "--folds",
        "folds_path",
        type=LocalPath(dir_okay=False),
        help="Table patient_id,fold: learn from the training patients of --fold only.",
    )(command)


def check_folds(folds_path: Path | None, fold: int | None) -> None:
    """Refuse one of --folds and --fold without the other."""
    if (folds_path is None) != (fold is None):
        raise click.UsageError("--folds and --fold belong together: which patients are trained on")


def check_out(out: Path) -> None:
    """Refuse a name that no checkpoint can have."""
    if out.suffix != ".safetensors":
        raise click.UsageError(f"--out: expected a name that ends in .safetensors, got {out.name}")
    if not out.parent.is_dir():
        raise click.UsageError(f"--out: there is no folder {out.parent}; make it first")


def read_roles(folds_path: Path, fold: int) -> "FoldRoles":
    """Read who is trained on and who is tested in a fold."""
    from aml_mil.cohort import read_folds, roles_of

    folds = read_folds(folds_path)
    try:
        return roles_of(folds, fold)
    except ValueError as error:
        raise click.UsageError(f"--fold: {error}") from error
