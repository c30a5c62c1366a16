"""`aml-mil predict`: patients that a run has not seen, by all its heads."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.cohort_options import cohort_options, read_chosen_cohort
from cli.output import json_option, note, print_json, print_table
from cli.progress import with_bar

if TYPE_CHECKING:
    from aml_mil.cohort import Cohort
    from aml_mil.evaluation.predict import CohortPrediction
    from aml_mil.mil.run_dir import Run


@click.command()
@click.argument("run_path", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("source", metavar="PATIENT_DIR|COHORT|STORE", type=click.Path(path_type=Path))
@click.option(
    "--out",
    "out_dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keeps the features, predictions.csv and, with labels, metrics.json.",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="The run's encoder, where it is not at its old path; a file of another hash is refused.",
)
@cohort_options
@json_option
def predict(
    *,
    run_path: Path,
    source: Path,
    out_dir: Path | None,
    weights: str | None,
    classes: str | None,
    merge: tuple[str, ...],
    min_malignant_percent: float | None,
    as_json: bool,
) -> None:
    """Predict patients by every head of RUN, averaged.

    Images are embedded first, by the very encoder that RUN was fitted with; with --out, a second
    call embeds only what is missing. Where patients have labels, every metric is given with its
    95% interval over patients.
    """
    from aml_mil.mil.run_dir import open_run

    run = open_run(run_path)
    chosen: Path | Cohort = source
    if classes or merge or min_malignant_percent is not None:
        chosen = read_chosen_cohort(
            source, classes=classes, merge=merge, min_malignant_percent=min_malignant_percent
        )
    prediction = _predict(run, chosen, weights=weights, out_dir=out_dir)
    if prediction.known:
        note(
            f"{len(prediction.known)} of {len(prediction.patient_ids)} patients are patients that "
            f"{run_path} was fitted on; their predictions prove nothing"
        )
    assessment = prediction.assessment
    if as_json:
        header, rows = prediction.rows()
        print_json(
            {
                "run": str(run_path),
                "patients": [dict(zip(header, row, strict=True)) for row in rows],
                "metrics": None if assessment is None else assessment.to_json(),
            }
        )
    else:
        _print(prediction)
    if out_dir is not None:
        note(f"written to {out_dir}")


def _predict(
    run: "Run", source: "Path | Cohort", *, weights: str | None, out_dir: Path | None
) -> "CohortPrediction":
    """Draw a bar while images are embedded, and return the prediction."""
    from aml_mil.embedding import EmbedProgress
    from aml_mil.evaluation.predict import CohortPrediction, predict_steps

    predictions: list[CohortPrediction] = []

    def embedding() -> Iterator[EmbedProgress]:
        for record in predict_steps(run, source, weights=weights, out_dir=out_dir):
            if not isinstance(record, EmbedProgress):
                predictions.append(record)
            elif record.phase == "embed":
                yield record

    records = embedding()
    first = next(records, None)
    if first is not None:
        for _ in with_bar(
            chain([first], records),
            total=first.cells_total,
            unit="cell",
            done="cells_done",
            description="embed",
        ):
            pass
    return predictions[0]


def _print(prediction: "CohortPrediction") -> None:
    from aml_mil.evaluation.scores import ALL_METRICS
    from aml_mil.report.tables import METRIC_TITLES, format_figure_with_interval

    rows = []
    for i, patient_id in enumerate(prediction.patient_ids):
        probabilities = [f"{p:.3f}" for p in prediction.probabilities[i]]
        rows.append(
            [patient_id, prediction.labels[i] or "–", prediction.predicted[i], *probabilities]
        )
    print_table(rows, headers=["patient", "label", "predicted", *prediction.classes])
    assessment = prediction.assessment
    if assessment is None:
        return
    click.echo()
    groups = {"macro": assessment.macro, **assessment.per_class}
    body = [
        [group, *(format_figure_with_interval(figures[metric]) for metric in ALL_METRICS)]
        for group, figures in groups.items()
    ]
    print_table(body, headers=["class", *(METRIC_TITLES[metric] for metric in ALL_METRICS)])
    click.echo(
        f"\n{assessment.num_patients} labelled patients: mean ± s.d. over the heads "
        "(95% interval over patients, heads averaged)"
    )
    for _, label in assessment.undefined:
        note(f"class {label} could not be scored: no labelled patient has it, or all have")
