"""Which run is looked at more closely: chosen by its validation patients only."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from aml_mil.evaluation.assessment import Figure, assess
from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.evaluation.predictions import Role
from aml_mil.mil.run_dir import METRICS_FILE, open_run
from benchmarks.study_budget import Heads
from benchmarks.study_layout import RANDOM, Encoder, Study


def validation_scores(run: Path) -> PatientScores:
    """Return what heads say about the patients that chose their epoch, as if these were tested."""
    validation = open_run(run).predictions().of_role("validation")
    test: Role = "test"
    as_test = replace(validation, roles=(test,) * len(validation.roles))
    return patient_scores(as_test, where=str(run))


@cache
def validation_figure(run: Path) -> Figure:
    """Return the macro ROC-AUC of a run's validation patients."""
    return assess(validation_scores(run)).macro["roc_auc"]


def candidates(study: Study) -> dict[Path, tuple[Encoder, Heads]]:
    """Name encoder and heads of every run on all folds, but those of the random encoder."""
    return {
        study.run(encoder, heads.name): (encoder, heads)
        for heads in study.budget.heads
        for encoder in study.of_all_folds
        if encoder.name != RANDOM
    }


def choose(study: Study) -> tuple[Encoder, Heads]:
    """Choose encoder and heads by the ROC-AUC of validation patients, seeds averaged.

    As long as a run is not fitted, the first is returned, so that steps can be listed.
    """
    runs = candidates(study)
    if not all((run / METRICS_FILE).exists() for run in runs):
        return next(iter(runs.values()))
    return runs[max(runs, key=lambda run: validation_figure(run).averaged or 0.0)]
