"""The page of predicted patients: probabilities with spread, attended cells, warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aml_mil.cohort import Cohort
from aml_mil.cohort.errors import name_some
from aml_mil.evaluation.cohort_prediction import CohortPrediction
from aml_mil.evaluation.ood import MIN_CELLS
from aml_mil.evaluation.patient_cells import PatientCells
from aml_mil.report.cells import (
    GALLERY_SIDE_PX,
    Gallery,
    ProbabilityRow,
    galleries,
    probability_rows,
)
from aml_mil.report.page import render_page
from aml_mil.report.thumbnails import Thumbnails

GALLERY_CELLS = 12
MAX_GALLERY_CELLS = 3000


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedPatient:
    """One patient as the page shows it.

    Attributes:
        number: Place on the page, from 1.
        patient_id: The patient.
        label: Known class, if any.
        predicted: Most probable class.
        is_known: Whether the run was fitted on this very patient.
        num_cells: Cells.
        probabilities: By class, with every head's.
        warnings: What speaks against the prediction.
        distance: In units of the threshold, as text.
        galleries: Most attended cells by class.
        is_far: Whether it is far from the training patients.
    """

    number: int
    patient_id: str
    label: str | None
    predicted: str
    is_known: bool
    num_cells: int
    probabilities: tuple[ProbabilityRow, ...]
    warnings: tuple[str, ...]
    distance: str
    galleries: tuple[Gallery, ...]
    is_far: bool


def cell_warnings(cells: PatientCells, *, is_judged: bool) -> tuple[str, ...]:
    """Say what speaks against the prediction of a patient.

    Args:
        cells: The patient's.
        is_judged: Whether patients could be held against the training patients at all.
    """
    found = []
    if cells.is_far:
        found.append(
            f"far from the training patients: {cells.distance:.1f} times the threshold; cells of "
            "another kind, stain or microscope, or no cells at all; the prediction means nothing"
        )
    elif is_judged and cells.distance is None:
        found.append(
            f"too few cells to be held against the training patients: {len(cells.instance_ids)}, "
            f"it takes {MIN_CELLS} or more; the prediction is uncertain"
        )
    if cells.quarantined:
        named = name_some(f"{file.file} ({file.reason})" for file in cells.quarantined)
        found.append(f"damaged files left out: {named}")
    return tuple(found)


def prediction_page(
    prediction: CohortPrediction,
    *,
    run_name: str,
    source: str,
    facts: Sequence[tuple[str, str]],
    cohort: Cohort | None = None,
) -> str:
    """Build the page of predicted patients; far ones first.

    Args:
        prediction: By all heads of a run.
        run_name: The run, as it is shown.
        source: What was predicted, as it is shown.
        facts: Names and values of the provenance.
        cohort: The images; without them there are no pictures.

    Returns:
        One self-contained HTML file.
    """
    thumbnails = Thumbnails(cohort)
    rows = range(len(prediction.patient_ids))
    order = sorted(rows, key=lambda row: (not prediction.cells[row].is_far, row))
    patients = []
    for number, row in enumerate(order, 1):
        bound = MAX_GALLERY_CELLS // (GALLERY_CELLS * len(prediction.classes))
        count = GALLERY_CELLS if number <= bound else 0
        patients.append(_patient(prediction, row, thumbnails, number=number, count=count))
    return render_page("prediction.html", _context(prediction, patients, run_name, source, facts))


def _context(
    prediction: CohortPrediction,
    patients: Sequence[PredictedPatient],
    run_name: str,
    source: str,
    facts: Sequence[tuple[str, str]],
) -> Mapping[str, Any]:
    has_overview = len(patients) + len(prediction.failed) > 1
    number = f"{len(patients)} patient{'s' * (len(patients) > 1)}"
    what = number if has_overview else prediction.patient_ids[0]
    return {
        "title": f"aml-mil: {what}",
        "what": what,
        "has_overview": has_overview,
        "patients": patients,
        "failed": prediction.failed,
        "run_name": run_name,
        "source": source,
        "facts": facts,
        "num_heads": len(prediction.by_replicate),
        "false_warnings": prediction.false_warnings,
        "num_far": len(prediction.far),
    }


def _patient(
    prediction: CohortPrediction, row: int, thumbnails: Thumbnails, *, number: int, count: int
) -> PredictedPatient:
    patient_id, cells = prediction.patient_ids[row], prediction.cells[row]
    reason = prediction.not_judged
    unjudged = (f"not held against the training patients: {reason}",) if reason else ()
    return PredictedPatient(
        number=number,
        patient_id=patient_id,
        label=prediction.labels[row],
        predicted=prediction.predicted[row],
        is_known=patient_id in prediction.known,
        num_cells=len(cells.instance_ids),
        probabilities=probability_rows(prediction.classes, prediction.by_replicate[:, row]),
        warnings=(*unjudged, *cell_warnings(cells, is_judged=not reason)),
        distance="not measured" if cells.distance is None else f"{cells.distance:.2f}",
        galleries=galleries(
            prediction.classes if count else (),
            cells.attention,
            instance_ids=cells.instance_ids,
            cell_types=cells.cell_types,
            picture=lambda name: thumbnails.picture(patient_id, name, side_px=GALLERY_SIDE_PX),
            count=count,
        ),
        is_far=cells.is_far,
    )
