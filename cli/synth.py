"""`aml-mil synth`: a synthetic cohort to try everything on."""

from pathlib import Path

import click

from cli.local_path import LocalPath
from cli.output import json_option, note, print_result
from cli.progress import with_bar


@click.command()
@click.argument("out", type=LocalPath())
@click.option(
    "--patients",
    default=60,
    show_default=True,
    type=click.IntRange(min=1),
    help="Patients, spread evenly over the labels.",
)
@click.option(
    "--cells",
    default=50,
    show_default=True,
    type=click.IntRange(min=1),
    help="Cells per patient, on average.",
)
@click.option("--seed", default=0, show_default=True, help="Another seed, another cohort.")
@json_option
def synth(*, out: Path, patients: int, cells: int, seed: int, as_json: bool) -> None:
    """Render a synthetic cohort into the folder OUT, in the layout of the public MLL set.

    The mixture of cell types decides a patient's label; colour does not. A cohort that is already
    there is left as it is.
    """
    from aml_mil.cohort import read_cohort, render_cohort

    if (out / "metadata.csv").exists():
        note(f"{out} holds a cohort already; nothing rendered")
    else:
        rendering = render_cohort(out, num_patients=patients, cells_per_patient=cells, seed=seed)
        for _ in with_bar(
            rendering, total=patients, unit="patient", done="patients_done", description="synth"
        ):
            pass
    cohort = read_cohort(out)
    facts = {
        "cohort": str(out),
        "patients": len(cohort.patients),
        "cells": cohort.num_cells,
        "classes": cohort.classes,
    }
    print_result(facts, as_json=as_json)
