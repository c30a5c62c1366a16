import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from aml_mil.evaluation import EvaluationError, Predictions, evaluate
from aml_mil.evaluation.metrics import score_classes


def _predictions(targets, probabilities, *, folds=None, seeds=None, role="test", classes="abc"):
    count = len(targets)
    return Predictions(
        classes=tuple(classes),
        patient_ids=tuple(f"P{i}" for i in range(count)),
        targets=np.array(targets),
        folds=np.zeros(count, int) if folds is None else np.array(folds),
        seeds=np.zeros(count, int) if seeds is None else np.array(seeds),
        roles=(role,) * count,
        probabilities=np.array(probabilities, float),
    )


def _random(count=60, *, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(3, size=count)
    logits = rng.normal(size=(count, 3))
    logits[np.arange(count), targets] += 1
    return targets, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_macro_figures_are_scikit_learns():
    targets, probabilities = _random()
    macro = evaluate(_predictions(targets, probabilities)).macro
    expected = {
        "f1": f1_score(targets, probabilities.argmax(1), average="macro"),
        "roc_auc": roc_auc_score(targets, probabilities, multi_class="ovr", average="macro"),
        "pr_auc": average_precision_score(np.eye(3)[targets], probabilities, average="macro"),
    }
    assert {name: s.mean for name, s in macro.items()} == pytest.approx(expected)


def test_figures_of_a_class_are_known_where_they_can_be_counted():
    targets = np.array([0, 0, 1, 1])
    probabilities = np.array([[0.9, 0.1], [0.3, 0.7], [0.4, 0.6], [0.2, 0.8]])
    scores = score_classes(targets, probabilities)
    # Class 1 is called three times, twice rightly; of 4 pairs one is in the wrong order.
    assert scores["f1"][1] == pytest.approx(2 * 2 / (3 + 2))
    assert scores["roc_auc"][1] == 3 / 4
    # Ranked by the probability of class 1: yes, no, yes.
    assert scores["pr_auc"][1] == pytest.approx((1 / 1 + 2 / 3) / 2)


def test_spread_is_over_folds_and_seeds_with_n_minus_one():
    targets, probabilities = _random(80)
    folds, seeds = np.repeat([0, 1], 40), np.tile([0, 1], 40)
    evaluation = evaluate(_predictions(targets, probabilities, folds=folds, seeds=seeds))
    values = [
        roc_auc_score(targets[mine], probabilities[mine], multi_class="ovr")
        for k in (0, 1)
        for s in (0, 1)
        if (mine := (folds == k) & (seeds == s)).any()
    ]
    assert evaluation.macro["roc_auc"].mean == pytest.approx(np.mean(values))
    assert evaluation.macro["roc_auc"].sd == pytest.approx(np.std(values, ddof=1))


def test_only_test_patients_count():
    targets, _ = _random()
    trained = _predictions(targets, np.eye(3)[targets], role="train")
    with pytest.raises(EvaluationError, match="predictions of test patients, got none"):
        evaluate(trained)


def test_a_class_missing_in_a_fold_is_left_out_there_and_said():
    targets, probabilities = _random(60)
    folds = np.repeat([0, 1], 30)
    kept = ~((folds == 0) & (targets == 2))
    evaluation = evaluate(_predictions(targets[kept], probabilities[kept], folds=folds[kept]))
    assert evaluation.undefined == ((0, "c"),)
    only = (folds == 1)[kept]
    expected = roc_auc_score(targets[kept][only] == 2, probabilities[kept][only, 2])
    assert evaluation.per_class["c"]["roc_auc"].mean == pytest.approx(expected)
    assert evaluation.per_class["c"]["roc_auc"].sd is None
