"""Which run is looked at more closely, by its validation patients only."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from aml_mil.evaluation.assessment import Figure, assess
from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.mil.run_dir import METRICS_FILE, open_run


def validation_scores(run: Path) -> PatientScores:
    """Return what heads say about the patients that chose their epoch, as if these were tested."""
    validation = open_run(run).predictions().of_role("validation")
    as_test = replace(validation, roles=("test",) * len(validation.roles))
    return patient_scores(as_test, where=str(run))


def validation_figure(run: Path) -> Figure:
    """Return the macro ROC-AUC of a run's validation patients."""
    return assess(validation_scores(run)).macro["roc_auc"]


def best_by_validation(runs: Sequence[Path]) -> Path:
    """Return the run of the highest ROC-AUC on validation patients, seeds averaged.

    As long as one of them is not fitted, the first is returned, so that steps can be listed.
    """
    if not all((run / METRICS_FILE).exists() for run in runs):
        return runs[0]
    return max(runs, key=lambda run: validation_figure(run).averaged or 0.0)
