"""`aml-mil predict`: patients that a run has not seen, by all its heads."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.cohort_options import cohort_options, read_chosen_cohort
from cli.failure import CommandError
from cli.local_path import LocalPath
from cli.output import json_option, note, print_json, print_table
from cli.progress import results_of
from cli.store_path import StorePath

if TYPE_CHECKING:
    from aml_mil.cohort import Cohort
    from aml_mil.evaluation.cohort_prediction import CohortPrediction
    from aml_mil.mil.run_dir import Run


@click.command()
@click.argument("run_path", metavar="RUN", type=LocalPath())
@click.argument("source", metavar="PATIENT_DIR|COHORT|STORE", type=StorePath())
@click.option(
    "--out",
    "out_dir",
    metavar="DIR",
    type=LocalPath(file_okay=False),
    help="Keeps the features, predictions.csv and, with labels, metrics.json.",
)
@click.option(
    "--weights",
    metavar="FILE",
    help="The run's encoder, where it is not at its old path; a file of another hash is refused.",
)
@click.option(
    "--report",
    "report_path",
    metavar="FILE",
    type=LocalPath(dir_okay=False),
    help="Write one offline HTML page: probabilities with spread, attended cells, warnings.",
)
@click.option(
    "--one-patient",
    is_flag=True,
    help="The folders in PATIENT_DIR are smears of one patient; else each of several is a patient.",
)
@cohort_options
@json_option
def predict(
    *,
    run_path: Path,
    source: Path,
    out_dir: Path | None,
    weights: str | None,
    report_path: Path | None,
    classes: str | None,
    merge: tuple[str, ...],
    min_malignant_percent: float | None,
    one_patient: bool,
    as_json: bool,
) -> None:
    """Predict patients by every head of RUN, averaged.

    Images are embedded first, by the very encoder that RUN was fitted with; with --out, a second
    call embeds only what is missing. Where patients have labels, every metric is given with its
    95% interval over patients. A patient far from the training patients is warned of; the exit code
    tells whether the command succeeded, never what was predicted.
    """
    from aml_mil.cohort.errors import name_some
    from aml_mil.mil.run_dir import open_run

    if report_path is not None and not report_path.parent.is_dir():
        raise click.UsageError(f"--report: there is no folder {report_path.parent}")
    run = open_run(run_path)
    chosen = _choose(
        source,
        classes=classes,
        merge=merge,
        min_malignant_percent=min_malignant_percent,
        one_patient=one_patient,
    )
    prediction = _predict(run, chosen, weights=weights, out_dir=out_dir)
    if prediction.known:
        note(
            f"{len(prediction.known)} of {len(prediction.patient_ids)} patients are patients that "
            f"{run_path} was fitted on; their predictions prove nothing"
        )
    _warn(prediction)
    assessment = prediction.assessment
    if as_json:
        print_json(
            {
                "run": str(run_path),
                "patients": prediction.records(),
                "failed": {p.patient_id: p.reason for p in prediction.failed},
                "metrics": None if assessment is None else assessment.to_json(),
            }
        )
    else:
        _print(prediction)
    if report_path is not None:
        _write_page(run, prediction, chosen, report_path)
    if out_dir is not None:
        note(f"written to {out_dir}")
    if prediction.failed:
        total = len(prediction.patient_ids) + len(prediction.failed)
        named = name_some(map(str, prediction.failed), total=total)
        raise CommandError(f"patients that could not be predicted: {named}; the others were")


def _choose(
    source: Path,
    *,
    classes: str | None,
    merge: tuple[str, ...],
    min_malignant_percent: float | None,
    one_patient: bool,
) -> "Path | Cohort":
    """Take a store as it is, else read the patients, and say how folders were taken."""
    from aml_mil.evaluation.new_patients import is_image_folder, read_patients
    from aml_mil.evaluation.predict import is_store

    if one_patient and (is_store(source) or (source.exists() and not is_image_folder(source))):
        raise click.UsageError(f"--one-patient: {source} names its patients itself")
    if classes or merge or min_malignant_percent is not None:
        return read_chosen_cohort(
            source, classes=classes, merge=merge, min_malignant_percent=min_malignant_percent
        )
    if is_store(source):
        return source
    cohort = read_patients(source, as_one=one_patient)
    for line in cohort.notes:
        note(line)
    return cohort


def _predict(
    run: "Run", source: "Path | Cohort", *, weights: str | None, out_dir: Path | None
) -> "CohortPrediction":
    """Draw a bar while images are embedded, and return the prediction."""
    from aml_mil.evaluation.cohort_prediction import CohortPrediction
    from aml_mil.evaluation.predict import predict_steps

    steps = predict_steps(run, source, weights=weights, out_dir=out_dir)
    (prediction,) = results_of(
        (step for step in steps if isinstance(step, CohortPrediction) or step.phase == "embed"),
        CohortPrediction,
        total="cells_total",
        unit="cell",
        done="cells_done",
        description="embed",
    )
    return prediction


def _warn(prediction: "CohortPrediction") -> None:
    """Say what speaks against the predictions."""
    from aml_mil.report.prediction_page import cell_warnings

    if prediction.not_judged:
        note(f"not held against the training patients: {prediction.not_judged}")
    for patient_id, cells in zip(prediction.patient_ids, prediction.cells, strict=True):
        for warning in cell_warnings(cells, is_judged=not prediction.not_judged):
            note(f"{patient_id}: {warning}")


def _write_page(
    run: "Run", prediction: "CohortPrediction", source: "Path | Cohort", path: Path
) -> None:
    from aml_mil.cohort import Cohort
    from aml_mil.evaluation.run import OpenRun
    from aml_mil.files import write_file
    from aml_mil.report.prediction_page import prediction_page
    from aml_mil.report.provenance import provenance_of

    cohort = source if isinstance(source, Cohort) else None
    page = prediction_page(
        prediction,
        run_name=run.path.resolve().name,
        source=str(source if cohort is None else cohort.root),
        facts=provenance_of(OpenRun(run)).facts,
        cohort=cohort,
    )
    write_file(path, page.encode())
    note(f"page: {path}, {path.stat().st_size / 1e6:.1f} MB")


def _print(prediction: "CohortPrediction") -> None:
    from aml_mil.evaluation.scores import ALL_METRICS
    from aml_mil.report.numbers import format_figure_with_interval
    from aml_mil.report.tables import METRIC_TITLES

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
