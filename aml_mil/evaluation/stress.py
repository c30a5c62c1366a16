"""How a run's figures fall when stain, light and optics change, and disease does not.

Shapes: n cells of one patient, S seeds, P patients, D features, C classes.

The test patients' images are embedded again under each perturbation and predicted by the heads of
the fold that tested them. A model that reads the stain falls when every patient's colour is brought
to the cohort's; a model that reads form does not. Beside it stands the floor of colour, fitted on
the unchanged patients of the other folds: how far a model falls that reads nothing else.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aml_mil.cohort import Cohort, Patient, keep_cell_types
from aml_mil.cohort.errors import name_some
from aml_mil.embedding import EmbedConfig
from aml_mil.embedding.colour import RgbImage
from aml_mil.embedding.preprocessing import follow_preparation
from aml_mil.evaluation.assessment import Assessment, assess
from aml_mil.evaluation.bootstrap import MACRO, Interval, Intervals
from aml_mil.evaluation.differences import paired_intervals
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.floors import fitted_patients, predict_by_colour
from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.evaluation.perturbations import (
    PERTURBATIONS,
    PatientContext,
    Perturbation,
    draw_direction,
)
from aml_mil.evaluation.reembedding import Reembedding, apply_change
from aml_mil.mil.run_dir import Run

FloatArray = npt.NDArray[np.float64]

UNCHANGED = "unchanged"
# Any encoder moves a little when pixels do; with eight tests, some of it will look certain.
MIN_FALL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class StressConfig:
    """How to put a run under stress.

    Attributes:
        max_cells: Most cells of a patient, drawn by the seed; without it all.
        device: auto, cpu, cuda or cuda:N.
        seed: Of the draws of cells and directions, and of the bootstrap.

    Raises:
        ValueError: A value is out of range.
    """

    max_cells: int | None = None
    device: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_cells is not None and self.max_cells < 1:
            raise ValueError(f"max_cells: expected 1 or more, got {self.max_cells}")


@dataclass(frozen=True, slots=True, kw_only=True)
class StressProgress:
    """State before the first and after each patient; cells count once per change."""

    cells_done: int
    cells_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fall:
    """What became of the figures under one perturbation.

    Attributes:
        perturbation: The change.
        assessment: Every metric under it.
        difference: Changed - unchanged, paired over patients, by metric, then by class and macro.
        floor: Every metric of the floor of colour under it; None where there is no floor.
    """

    perturbation: Perturbation
    assessment: Assessment
    difference: Intervals
    floor: Assessment | None

    @property
    def roc_auc(self) -> Interval:
        """The change of the macro ROC-AUC."""
        return self.difference["roc_auc"][MACRO]

    @property
    def is_clear(self) -> bool:
        """Whether the macro ROC-AUC falls by `MIN_FALL` or more, and its interval lies below 0."""
        change = self.roc_auc
        if change.estimate is None or change.high is None:
            return False
        return change.estimate <= -MIN_FALL and change.high < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StressReport:
    """What a stress test found.

    Attributes:
        unchanged: Every metric of the same cells, embedded again without a change.
        falls: By perturbation, in the order of `PERTURBATIONS`.
        floor: Of the floor of colour, without a change; None where the run has patients that no
            fold tests, whose colours it would need.
        num_patients: Patients.
        num_cells: Cells embedded under each perturbation.
        engine: What embedded them.
        precision: In which arithmetic.
    """

    unchanged: Assessment
    falls: Mapping[str, Fall]
    floor: Assessment | None
    num_patients: int
    num_cells: int
    engine: str
    precision: str

    @property
    def sentences(self) -> tuple[str, ...]:
        """Say plainly what the run relies on."""
        colour = [f for f in self.falls.values() if f.is_clear and f.perturbation.is_colour]
        form = [f for f in self.falls.values() if f.is_clear and not f.perturbation.is_colour]
        if not colour and not form:
            return (f"no perturbation lowers the macro ROC-AUC clearly, by {MIN_FALL} or more",)
        said = []
        if colour:
            named = ", ".join(_say(fall) for fall in colour)
            said.append(f"relies on colour: macro ROC-AUC falls under {named}")
        if form:
            named = ", ".join(_say(fall) for fall in form)
            said.append(f"depends on sharpness, compression or size: it falls under {named}")
        return tuple(said)


def stress(
    run: Run,
    cohort: Cohort,
    *,
    weights: str | Path | None = None,
    config: StressConfig | None = None,
    perturbations: Sequence[str] | None = None,
) -> Iterator[StressProgress | StressReport]:
    """Embed a run's test patients again under perturbations, and evaluate them.

    Args:
        run: A finished run.
        cohort: The images it was fitted on; patients that are no patients of the run are left out.
        weights: The encoder's weights, where they are not at the path of config.json.
        config: Settings.
        perturbations: Names out of `PERTURBATIONS`; all if not given.

    Yields:
        Progress before the first and after each patient, then the report.

    Raises:
        EvaluationError: A patient of the run is not in the cohort, the encoder is another than the
            run's, a perturbation is unknown, or a patient has no readable image.
    """
    config = config or StressConfig()
    predictions = run.predictions()
    scores = patient_scores(predictions, where=str(run.path))
    chosen = _choose(perturbations)
    patients = _patients_of(scores, cohort, run)
    stressed = Reembedding(
        run,
        weights=weights,
        device=config.device,
        max_cells=config.max_cells,
        seed=config.seed,
    )
    total = sum(map(stressed.num_files, patients)) * (1 + len(chosen))
    yield StressProgress(cells_done=0, cells_total=total)
    colours = np.stack([stressed.measure(patient) for patient in patients])
    cohort_colour = colours.mean(axis=0)
    found = np.empty((1 + len(chosen), len(scores.seeds), len(patients), len(scores.classes)))
    tints = np.empty((1 + len(chosen), len(patients), 6))
    done = num_cells = 0
    for row, patient in enumerate(patients):
        changes = [_leave] + [
            apply_change(
                PERTURBATIONS[name],
                PatientContext(
                    direction=draw_direction(patient.patient_id, name, seed=config.seed),
                    colour=colours[row],
                    cohort_colour=cohort_colour,
                ),
            )
            for name in chosen
        ]
        images = stressed.images(patient)
        found[:, :, row], tints[:, row] = stressed.predict(
            images, changes, fold=int(scores.folds[row])
        )
        num_cells += len(images)
        done += stressed.num_files(patient) * len(changes)
        yield StressProgress(cells_done=done, cells_total=total)
    by_name = {
        name: replace(scores, probabilities=probabilities)
        for name, probabilities in zip((UNCHANGED, *chosen), found, strict=True)
    }
    has_floor = len(patients) == run.document["num_patients"]
    fitted = fitted_patients(predictions, scores.patient_ids)
    floors = (
        _colour_floors(scores, tints, fitted=fitted, seed=config.seed)
        if has_floor
        else [None] * len(tints)
    )
    by_colour = dict(zip((UNCHANGED, *chosen), floors, strict=True))
    yield StressReport(
        unchanged=assess(by_name[UNCHANGED], seed=config.seed),
        falls={
            name: Fall(
                perturbation=PERTURBATIONS[name],
                assessment=assess(by_name[name], seed=config.seed),
                difference=paired_intervals(by_name[name], by_name[UNCHANGED], seed=config.seed),
                floor=by_colour[name],
            )
            for name in chosen
        },
        floor=by_colour[UNCHANGED],
        num_patients=len(patients),
        num_cells=num_cells,
        engine=stressed.numerics.engine,
        precision=stressed.numerics.precision,
    )


def _leave(image: RgbImage) -> RgbImage:
    return image


def _choose(names: Sequence[str] | None) -> tuple[str, ...]:
    if unknown := set(names or ()) - set(PERTURBATIONS):
        raise EvaluationError(
            f"unknown perturbation {min(unknown)!r}; expected of {', '.join(PERTURBATIONS)}"
        )
    return tuple(name for name in PERTURBATIONS if names is None or name in names)


def _patients_of(scores: PatientScores, cohort: Cohort, run: Run) -> list[Patient]:
    """Find the patients of a run, with the cells of the types that it was fitted on."""
    preprocessing = run.document["stores"][0]["preprocessing"]
    if cell_types := follow_preparation(EmbedConfig(), preprocessing).cell_types:
        cohort = keep_cell_types(cohort, cell_types)
    by_id = {patient.patient_id: patient for patient in cohort.patients}
    if missing := [p for p in scores.patient_ids if p not in by_id]:
        raise EvaluationError(
            f"patients of {run.path} that are not in {cohort.root}: "
            f"{name_some(missing, total=len(scores.patient_ids))}; "
            "give the cohort that the run's store was embedded from"
        )
    return [by_id[patient_id] for patient_id in scores.patient_ids]


def _colour_floors(
    scores: PatientScores,
    colours: FloatArray,
    *,
    fitted: Mapping[int, npt.NDArray[np.bool_]],
    seed: int,
) -> list[Assessment]:
    """Assess the floor of colour under each change, [changes, P, 6]; the first is none."""
    found = predict_by_colour(
        colours[0],
        colours,
        targets=scores.targets,
        folds=scores.folds,
        fitted=fitted,
        num_classes=len(scores.classes),
    )
    return [assess(replace(scores, seeds=(0,), probabilities=p[None]), seed=seed) for p in found]


def _say(fall: Fall) -> str:
    change = fall.roc_auc
    if change.estimate is None or change.low is None or change.high is None:
        return fall.perturbation.name
    return (
        f"{fall.perturbation.name} by {-change.estimate:.2f} "
        f"({-change.high:.2f} to {-change.low:.2f})"
    )
