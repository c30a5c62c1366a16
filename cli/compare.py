"""`aml-mil compare`: runs side by side, beside their floors, as tables and figures."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cli.local_path import LocalPath
from cli.output import json_option, note, print_json
from cli.random_store import NO_RANDOM_STORE, random_store_option

if TYPE_CHECKING:
    from aml_mil.evaluation.comparison import Comparison
    from aml_mil.evaluation.run import OpenRun


@click.command()
@click.argument("runs", metavar="RUN…", nargs=-1, required=True, type=LocalPath(exists=True))
@click.option(
    "--figures",
    "figures_dir",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Draw figures 2 to 5 into this folder, each as PNG, SVG and PDF.",
)
@click.option(
    "--cell-types",
    "kinds_path",
    metavar="FILE",
    type=LocalPath(dir_okay=False, exists=True),
    help="Table cell_type,kind (malignant, healthy, other) in place of the one that comes along.",
)
@random_store_option
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap and the UMAP.")
@click.option("--csv", "style", flag_value="csv", help="Print every figure as CSV.")
@click.option("--markdown", "style", flag_value="markdown", help="Print the tables as Markdown.")
@click.option("--latex", "style", flag_value="latex", help="Print the tables as LaTeX.")
@json_option
def compare(
    *,
    runs: tuple[Path, ...],
    figures_dir: Path | None,
    kinds_path: Path | None,
    random_store: Path | None,
    seed: int,
    style: Literal["csv", "markdown", "latex"] | None,
    as_json: bool,
) -> None:
    """Compare runs over the same patients on the same folds.

    Prints macro figures of every RUN beside the floors, the figures of each class, and paired
    differences between the runs. A floor inside a run's interval is named: that run has not been
    shown to know more than the floor does.
    """
    from aml_mil.evaluation.comparison import compare_runs
    from aml_mil.evaluation.random_floor import with_random_floor
    from aml_mil.evaluation.run import open_run

    if as_json and style:
        raise click.UsageError(f"--json and --{style} both choose the output; leave one out")
    if kinds_path is not None and figures_dir is None:
        raise click.UsageError("--cell-types has no effect without --figures")
    opened = [open_run(path) for path in runs]
    names = _names(opened)
    to_compare = [run.to_compare(name) for run, name in zip(opened, names, strict=True)]
    if random_store is not None:
        to_compare = [
            with_random_floor(run, one.run.predictions(), random_store)
            for run, one in zip(to_compare, opened, strict=True)
        ]
    comparison = compare_runs(to_compare, seed=seed)
    _print(comparison, style=style, as_json=as_json)
    if not as_json:
        _say(comparison)
    if not any("random_encoder" in run.floors for run in to_compare):
        note(NO_RANDOM_STORE)
    if figures_dir is not None:
        _draw(dict(zip(names, opened, strict=True)), figures_dir, kinds_path, seed=seed)


def _names(opened: "list[OpenRun]") -> list[str]:
    """Name runs by their folders; by their paths where folders have the same name."""
    counts = Counter(run.name for run in opened)
    return [run.name if counts[run.name] == 1 else str(run.path) for run in opened]


def _print(
    comparison: "Comparison", *, style: Literal["csv", "markdown", "latex"] | None, as_json: bool
) -> None:
    import csv
    import sys

    from aml_mil.report.tables import (
        CAPTION,
        CSV_HEADER,
        comparison_json,
        csv_rows,
        paired_table,
        per_class_table,
        table_1,
    )

    if as_json:
        print_json(comparison_json(comparison))
    elif style == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(CSV_HEADER)
        writer.writerows(csv_rows(comparison))
    else:
        chosen: Any = style or "text"
        click.echo(table_1(comparison, style=chosen))
        click.echo(f"\n{per_class_table(comparison, style=chosen)}")
        if comparison.paired:
            click.echo(f"\n{paired_table(comparison.paired, style=chosen)}")
        if style is None:
            click.echo(f"\n{CAPTION}")


def _say(comparison: "Comparison") -> None:
    for sentence in comparison.floor_sentences:
        note(sentence)
    for line in comparison.notes:
        note(line)


def _draw(
    opened: "dict[str, OpenRun]", folder: Path, kinds_path: Path | None, *, seed: int
) -> None:
    from aml_mil.evaluation.kinds import read_kinds
    from aml_mil.report.paper_figures import draw_paper_figures

    kinds = None if kinds_path is None else read_kinds(kinds_path)
    for drawn in draw_paper_figures(opened, folder, kinds=kinds, seed=seed):
        note(drawn)
