from pathlib import Path

import numpy as np
import pytest

from aml_mil.cohort import read_cohort
from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.patients import patient_scores
from aml_mil.evaluation.reembedding import Reembedding
from aml_mil.evaluation.stress import StressConfig, StressProgress, StressReport, stress
from aml_mil.mil import open_run
from tests.evaluation.cohorts import Fitted, draw_cohort, fit_on


def run_stress(fitted: Fitted, *names: str) -> StressReport:
    steps = stress(open_run(fitted.run), read_cohort(fitted.cohort), perturbations=names or None)
    *progress, report = steps
    assert all(isinstance(record, StressProgress) for record in progress)
    assert isinstance(report, StressReport)
    return report


def test_a_model_that_reads_only_the_tint_is_exposed(tinted: Fitted) -> None:
    report = run_stress(tinted, "cohort_colour", "jpeg")
    assert report.unchanged.macro["roc_auc"].averaged > 0.95
    fall = report.falls["cohort_colour"]
    assert fall.assessment.macro["roc_auc"].averaged < 0.75
    assert fall.is_clear
    assert not report.falls["jpeg"].is_clear
    (sentence,) = report.sentences
    assert sentence.startswith("relies on colour: macro ROC-AUC falls under cohort_colour by ")


def test_a_model_that_reads_only_form_is_not_exposed(tmp_path: Path) -> None:
    formed = fit_on(draw_cohort(tmp_path / "cohort", label_is="form"), tmp_path)
    report = run_stress(formed, "cohort_colour", "hue", "saturation", "background_tint")
    assert report.unchanged.macro["roc_auc"].averaged > 0.95
    assert not any(fall.is_clear for fall in report.falls.values())
    assert report.sentences[0].startswith("no perturbation lowers the macro ROC-AUC clearly")


def test_unchanged_images_give_the_runs_own_predictions(tinted: Fitted) -> None:
    run = open_run(tinted.run)
    own = patient_scores(run.predictions())
    report = run_stress(tinted, "blur")
    expected, found = assess(own).macro["brier"], report.unchanged.macro["brier"]
    assert found.mean == pytest.approx(expected.mean, abs=1e-3)
    assert report.num_cells == 96


def test_a_patient_is_predicted_by_the_heads_that_tested_it(tinted: Fitted) -> None:
    run = open_run(tinted.run)
    own = patient_scores(run.predictions())
    reembedding = Reembedding(run, weights=None, device="cpu", max_cells=None, seed=0)
    for row, patient in enumerate(read_cohort(tinted.cohort).patients[:4]):
        assert patient.patient_id == own.patient_ids[row]
        images = reembedding.images(patient)
        found = reembedding.predict(images, fold=int(own.folds[row]))
        np.testing.assert_allclose(found, own.probabilities[:, row], atol=2e-3)


def test_the_patients_colour_is_that_of_the_store(tinted: Fitted) -> None:
    from aml_mil.evaluation.floors import patient_colours
    from stores import open_store

    reembedding = Reembedding(
        open_run(tinted.run), weights=None, device="cpu", max_cells=None, seed=0
    )
    measured = reembedding.measure(read_cohort(tinted.cohort).patients[:1])
    with open_store(tinted.store) as store:
        colour = store.read("P00").colour
    np.testing.assert_allclose(measured, patient_colours(colour, np.array([0, len(colour)])))


def test_an_unknown_perturbation_is_refused(tinted: Fitted) -> None:
    with pytest.raises(
        EvaluationError, match="unknown perturbation 'colour'; expected of cohort_c"
    ):
        run_stress(tinted, "colour")


def test_a_cohort_without_the_runs_patients_is_refused(tinted: Fitted, tmp_path: Path) -> None:
    other = draw_cohort(tmp_path / "other", label_is="tint", num_patients=6)
    with pytest.raises(
        EvaluationError, match=r"not in .*: P06, P07, P08, P09, P10, … \(18 of 24\)"
    ):
        list(stress(open_run(tinted.run), read_cohort(other)))


def test_max_cells_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_cells: expected 1 or more, got 0"):
        StressConfig(max_cells=0)
