"""`aml-mil stress`: how a run's figures fall when the stain changes and the disease does not."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aml_mil.evaluation.stress import StressConfig
from cli.cohort_options import cohort_options, read_chosen_cohort
from cli.flags import config_from, config_options
from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_table
from cli.progress import results_of

if TYPE_CHECKING:
    from aml_mil.evaluation.stress import StressProgress, StressReport


@click.command()
@click.argument("run_path", metavar="RUN", type=LocalPath())
@click.option(
    "--cohort",
    "cohort_path",
    required=True,
    type=LocalPath(),
    help="The images that RUN's store was embedded from.",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="The run's encoder, where it is not at its old path; a file of another hash is refused.",
)
@click.option(
    "--perturbations",
    metavar="A,B",
    help="Only these of cohort_colour, hue, saturation, brightness, background_tint, blur, jpeg, "
    "scale.",
)
@config_options(StressConfig)
@cohort_options
@json_option
def stress(
    *,
    run_path: Path,
    cohort_path: Path,
    weights: str | None,
    perturbations: str | None,
    classes: str | None,
    merge: tuple[str, ...],
    min_malignant_percent: float | None,
    config_path: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Embed RUN's test patients again under changes of stain, light and optics.

    Every patient is predicted by the heads that never saw it. A model that reads the stain falls
    when each patient's RGB mean and s.d. are brought to the cohort's; one that reads form does
    not.
    """
    from aml_mil.evaluation.stress import StressReport
    from aml_mil.evaluation.stress import stress as stress_run
    from aml_mil.mil.run_dir import open_run, write_json
    from aml_mil.report.run_tables import STRESS_FILE
    from aml_mil.report.tables import stress_json

    config = config_from(StressConfig, values, config_path=config_path)
    run = open_run(run_path)
    cohort = read_chosen_cohort(
        cohort_path, classes=classes, merge=merge, min_malignant_percent=min_malignant_percent
    )
    names = None if perturbations is None else [name.strip() for name in perturbations.split(",")]
    steps = stress_run(run, cohort, weights=weights, config=config, perturbations=names)
    (report,) = results_of(
        _announced(steps),
        StressReport,
        total="cells_total",
        unit="cell",
        done="cells_done",
        description="stress",
    )
    write_json(run.path / STRESS_FILE, stress_json(report))
    if as_json:
        print_json(stress_json(report))
    else:
        _print(report)
    note(f"kept in {run.path / STRESS_FILE}, for the report")


def _announced(
    steps: "Iterator[StressProgress | StressReport]",
) -> "Iterator[StressProgress | StressReport]":
    """Say what is ahead, before the bar is drawn."""
    from aml_mil.evaluation.stress import StressProgress

    for step in steps:
        if isinstance(step, StressProgress) and step.cells_done == 0:
            note(
                f"{step.cells_total} images to embed, the unchanged ones among them; "
                "--perturbations and --max-cells make them fewer"
            )
        yield step


def _print(report: "StressReport") -> None:
    from aml_mil.evaluation.metrics import METRICS
    from aml_mil.report.tables import METRIC_TITLES, stress_json, stress_rows

    titles = (METRIC_TITLES[metric] for metric in METRICS)
    print_table(stress_rows(stress_json(report)), headers=["perturbation", "amount", *titles])
    click.echo(
        f"\n{report.num_patients} patients, {report.num_cells} cells, embedded again by "
        f"{report.engine} in {report.precision}: macro figures of the seeds' averaged predictions "
        "(change against unchanged, paired 95% interval over patients)"
    )
    for sentence in report.sentences:
        note(sentence)
