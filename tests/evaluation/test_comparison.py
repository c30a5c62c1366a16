from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.assessment import Figure, assess
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.comparison import RunToCompare, compare_runs, floors_from_json
from aml_mil.evaluation.confusion import confusion
from aml_mil.evaluation.differences import paired_intervals
from aml_mil.evaluation.patients import PatientScores
from tests.evaluation.simulated import simulate


def to_compare(name: str, scores: PatientScores, **floors: float) -> RunToCompare:
    figures = {
        floor: {
            MACRO: dict.fromkeys(("f1", "roc_auc", "pr_auc"), Figure(mean=value, sd=0.05)),
            **{c: {"roc_auc": Figure(mean=value)} for c in scores.classes},
        }
        for floor, value in floors.items()
    }
    return RunToCompare(name=name, scores=scores, floors=figures)


GOOD = simulate((50, 30), separation=3.0, seed=1)
POOR = simulate((50, 30), separation=0.3, seed=2)
ALIKE = replace(GOOD, probabilities=GOOD.probabilities**1.02)


def test_a_clearly_better_run_is_alone_in_bold() -> None:
    rows = compare_runs([to_compare("good", GOOD), to_compare("poor", POOR)]).of_group(MACRO)
    assert "roc_auc" in rows[0].best
    assert "roc_auc" not in rows[1].best


def test_runs_that_cannot_be_told_apart_are_both_in_bold() -> None:
    noisy = replace(GOOD, probabilities=simulate((50, 30), separation=3.0, seed=9).probabilities)
    rows = compare_runs([to_compare("a", GOOD), to_compare("b", noisy)]).of_group(MACRO)
    assert all("roc_auc" in row.best for row in rows)


def test_the_smaller_brier_score_is_the_better() -> None:
    rows = compare_runs([to_compare("poor", POOR), to_compare("good", GOOD)]).of_group(MACRO)
    assert "brier" not in rows[0].best
    assert "brier" in rows[1].best


def test_a_floor_inside_the_interval_is_named_and_one_below_is_not() -> None:
    auc = assess(POOR).macro["roc_auc"]
    assert auc.low is not None
    found = compare_runs([to_compare("poor", POOR, colour=auc.low + 0.01, class_prior=0.01)])
    assert [r.floor for r in found.floors_reached if r.metric == "roc_auc"] == ["colour"]
    (sentence,) = found.floor_sentences
    assert sentence.startswith("poor is not shown to beat the floor colour: roc_auc")
    assert f" inside {auc.low:.2f} to {auc.high:.2f}" in sentence


def test_a_floor_above_the_interval_is_named_as_above() -> None:
    found = compare_runs([to_compare("poor", POOR, colour=0.99)])
    assert "roc_auc 0.99 above" in found.floor_sentences[0]


def test_a_run_without_an_interval_is_not_shown_to_beat_a_floor() -> None:
    one_each = simulate((5, 5), separation=0.3, seed=2)
    auc = assess(one_each).macro["roc_auc"]
    assert (auc.averaged is not None, auc.low, auc.high) == (True, None, None)
    found = compare_runs([to_compare("small", one_each, colour=1.0)])
    assert "roc_auc" in [reached.metric for reached in found.floors_reached]
    (sentence,) = found.floor_sentences
    assert "roc_auc 1.00 beside no interval" in sentence


def test_the_paired_difference_is_that_of_the_assessments() -> None:
    found = paired_intervals(GOOD, POOR)["roc_auc"][MACRO]
    good, poor = assess(GOOD).macro["roc_auc"], assess(POOR).macro["roc_auc"]
    assert found.estimate == pytest.approx(good.averaged - poor.averaged, abs=1e-12)
    assert found.low > 0


def test_what_both_runs_find_hard_drops_out_of_the_difference() -> None:
    found = paired_intervals(GOOD, ALIKE)["brier"][MACRO]
    alone = assess(GOOD).macro["brier"]
    assert found.high - found.low < 0.1 * (alone.high - alone.low)


def test_a_difference_that_resampling_cannot_see_is_not_called_certain() -> None:
    good, poor = (simulate((5, 5), separation=s, seed=2) for s in (30.0, 0.3))
    found = paired_intervals(good, poor)["roc_auc"][MACRO]
    assert found.estimate is not None
    assert found.estimate > 0
    assert (found.low, found.high) == (None, None)
    rows = compare_runs([to_compare("good", good), to_compare("poor", poor)]).of_group(MACRO)
    assert all("roc_auc" in row.best for row in rows)


def test_a_run_does_not_differ_from_itself() -> None:
    found = paired_intervals(GOOD, GOOD)["roc_auc"][MACRO]
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(GOOD, classes=("A", "C")), "a and b are runs of different classes: A, B and A, C"),
        (
            replace(GOOD, patient_ids=("x", *GOOD.patient_ids[1:])),
            r"different cohorts: in one only p000, x \(2\)",
        ),
        (replace(GOOD, folds=(GOOD.folds + 1) % 5), "different folds of p000.*--folds FILE"),
        (replace(GOOD, targets=1 - GOOD.targets), "different labels of p000"),
    ],
)
def test_runs_that_are_not_comparable_are_refused(other: PatientScores, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        compare_runs([to_compare("a", GOOD), to_compare("b", other)])


def test_common_floors_stand_once_and_mean_pooling_once_a_run() -> None:
    runs = [to_compare(name, GOOD, mean_pooling=0.8, colour=0.7) for name in ("a", "b")]
    names = [row.name for row in compare_runs(runs).of_group(MACRO)]
    assert names == ["a", "b", "colour", "mean_pooling (a)", "mean_pooling (b)"]


def test_a_floor_that_differs_between_runs_stands_once_a_run() -> None:
    runs = [
        to_compare("all cells", GOOD, colour=0.7, class_prior=0.5),
        to_compare("few cells", GOOD, colour=0.8, class_prior=0.5),
    ]
    rows = {row.name: row for row in compare_runs(runs).of_group(MACRO) if row.is_floor}
    assert list(rows) == ["colour (all cells)", "class_prior", "colour (few cells)"]
    assert rows["colour (few cells)"].figures["roc_auc"].mean == 0.8


def test_floors_are_read_from_metrics_json_with_or_without_intervals() -> None:
    plain = {"mean": 0.8, "sd": 0.1}
    whole = {**plain, "averaged": 0.8, "low": 0.7, "high": 0.9}
    document = {"floors": {"colour": {"f1": plain, "per_class": {"A": {"f1": whole}}}}}
    found = floors_from_json(document)["colour"]
    assert found[MACRO]["f1"] == Figure(mean=0.8, sd=0.1)
    assert found["A"]["f1"] == Figure(mean=0.8, sd=0.1, averaged=0.8, low=0.7, high=0.9)


def test_the_confusion_matrix_counts_one_seed_over_all_test_folds() -> None:
    expected = confusion_matrix(POOR.targets, POOR.probabilities[1].argmax(axis=1))
    np.testing.assert_array_equal(confusion(POOR, seed=1), expected)
    assert confusion(POOR, seed=None).sum() == 80
    with pytest.raises(EvaluationError, match="seeds 0, 1, 2, got 7"):
        confusion(POOR, seed=7)
