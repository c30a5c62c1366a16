"""`aml-mil explain`: which cells of a patient counted, and what each says on its own."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aml_mil.evaluation.explain import CellOpinion, Explanation

TABLE_SUFFIX = ".csv"
FIGURE_SUFFIXES = (".png", ".svg", ".pdf")


@click.command()
@click.argument("run_path", metavar="RUN", type=LocalPath())
@click.argument("patient_id", metavar="PATIENT")
@click.option(
    "--cohort",
    "cohort_path",
    type=LocalPath(),
    help="The images that RUN's store was embedded from; a picture needs them.",
)
@click.option(
    "--out",
    "out_paths",
    metavar="FILE",
    multiple=True,
    type=LocalPath(dir_okay=False),
    help="NAME.csv: every cell. NAME.png, .svg or .pdf: the cells' pictures. May be repeated.",
)
@click.option(
    "--cells",
    "count",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="Most and least attended cells to show, of each.",
)
@json_option
def explain(
    *,
    run_path: Path,
    patient_id: str,
    cohort_path: Path | None,
    out_paths: tuple[Path, ...],
    count: int,
    as_json: bool,
) -> None:
    """Show the cells of PATIENT that counted most and least for each class of RUN.

    Attention is that of the heads that never saw the patient, averaged over the seeds, in units
    of the patient's average cell. `alone` is the probability of the class for a patient who had
    this cell only; the share of the cells called each class so is the smear's deconvolution.
    """
    from aml_mil.evaluation.run import open_run
    from aml_mil.files import write_csv, write_file

    _check_outputs(out_paths, cohort_path)
    run = open_run(run_path)
    found = run.explain(patient_id)
    for path in out_paths:
        if path.suffix == TABLE_SUFFIX:
            write_csv(path, *found.rows())
        else:
            assert cohort_path is not None
            figure = run.cells_figure(patient_id, cohort_path, count=count)
            picture = BytesIO()
            figure.savefig(picture, format=path.suffix.removeprefix("."), dpi=200)
            write_file(path, picture.getvalue())
    scores = run.scores
    row = scores.patient_ids.index(patient_id)
    label = scores.classes[scores.targets[row]]
    probabilities = dict(zip(scores.classes, scores.averaged[row].tolist(), strict=True))
    if as_json:
        print_json(
            {
                "patient_id": patient_id,
                "label": label,
                "probabilities": probabilities,
                "num_cells": len(found.instance_ids),
                "deconvolution": found.deconvolution,
                "classes": {name: _as_json(found, name, count) for name in found.classes},
            }
        )
        return
    _print(found, count)
    shares = found.deconvolution
    click.echo(f"\n{patient_id}, {label}, {len(found.instance_ids)} cells")
    print_table(
        [[name, f"{probabilities[name]:.3f}", f"{shares[name]:.1%}"] for name in found.classes],
        headers=["class", "probability", "cells that alone are called so"],
    )
    for path in out_paths:
        note(f"written: {path}")


def _check_outputs(paths: tuple[Path, ...], cohort_path: Path | None) -> None:
    for path in paths:
        if path.suffix not in (TABLE_SUFFIX, *FIGURE_SUFFIXES):
            raise click.UsageError(
                f"--out: expected a name that ends in {TABLE_SUFFIX} or "
                f"{', '.join(FIGURE_SUFFIXES)}, got {path.name!r}"
            )
        if path.suffix in FIGURE_SUFFIXES and cohort_path is None:
            raise click.UsageError(f"--out {path.name} shows images: give their --cohort")
    if cohort_path is not None and all(path.suffix == TABLE_SUFFIX for path in paths):
        raise click.UsageError("--cohort has no effect without a picture as --out")


def _print(found: "Explanation", count: int) -> None:
    for label in found.classes:
        for what, cells in (
            ("most", found.most_attended(label, count)),
            ("least", found.least_attended(label, count)),
        ):
            click.echo(f"\n{what} attended for {label}")
            print_table(_rows(cells), headers=["image", "type", "attention", "alone"])


def _rows(cells: "Sequence[CellOpinion]") -> list[list[str]]:
    return [
        [cell.instance_id, cell.cell_type or "–", f"{cell.attention:.2f}", f"{cell.alone:.3f}"]
        for cell in cells
    ]


def _as_json(found: "Explanation", label: str, count: int) -> dict[str, object]:
    def listed(cells: "Sequence[CellOpinion]") -> list[dict[str, object]]:
        return [{name: getattr(cell, name) for name in cell.__slots__} for cell in cells]

    return {
        "most_attended": listed(found.most_attended(label, count)),
        "least_attended": listed(found.least_attended(label, count)),
    }
