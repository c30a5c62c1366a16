import dataclasses

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from aml_mil.evaluation import FloorCohort, mean_per_patient, predict_floors
from aml_mil.evaluation.floors import patient_colours

NUM_PATIENTS = 40


def _cohort(*, tint=0.0, signal=0.0, extra_cells=0):
    rng = np.random.default_rng(0)
    targets = np.arange(NUM_PATIENTS) % 2
    sizes = rng.integers(20, 30, NUM_PATIENTS) + extra_cells * targets
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    of_cell = np.repeat(targets, sizes)
    colour = rng.uniform(100, 140, (offsets[-1], 6))
    colour[:, 0] += tint * of_cell
    pooled = rng.normal(size=(NUM_PATIENTS, 7)) + signal * targets[:, None]
    folds = np.arange(NUM_PATIENTS) // 2 % 5
    return FloorCohort(
        patient_ids=tuple(f"P{i}" for i in range(NUM_PATIENTS)),
        targets=targets,
        folds=folds,
        fitted={fold: folds != fold for fold in range(5)},
        classes=("a", "b"),
        offsets=offsets,
        colour=colour.astype(np.float32),
        pooled=dict.fromkeys(range(5), pooled),
    )


def _auc(cohort, floor):
    predicted = predict_floors(cohort)[floor]
    tested = [predicted.of_replicate(fold, 0) for fold in range(5)]
    return np.mean([roc_auc_score(one.targets, one.probabilities[:, 1]) for one in tested])


def test_patient_colours_are_those_of_all_pixels():
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 255, (5, 12, 12, 3))
    cells = np.concatenate([images.mean((1, 2)), images.std((1, 2))], axis=1).astype(np.float32)
    colours = patient_colours(cells, np.array([0, 2, 5]))
    for patient, own in enumerate((images[:2], images[2:])):
        expected = np.concatenate([own.mean((0, 1, 2)), own.std((0, 1, 2))])
        np.testing.assert_allclose(colours[patient], expected, rtol=1e-5)


def test_means_are_per_patient():
    values = np.array([[1.0], [3.0], [5.0]])
    assert mean_per_patient(values, np.array([0, 2, 3])).tolist() == [[2.0], [5.0]]


def test_means_of_maps_are_over_their_positions():
    values = np.random.default_rng(0).normal(size=(5, 3, 2, 4))
    found = mean_per_patient(values, np.array([0, 2, 5]))
    np.testing.assert_allclose(found, [values[:2].mean((0, 2, 3)), values[2:].mean((0, 2, 3))])


@pytest.mark.parametrize(
    ("floor", "differing"),
    [
        ("colour", {"tint": 60.0}),
        ("mean_pooling", {"signal": 3.0}),
        ("cell_count", {"extra_cells": 40}),
    ],
)
def test_each_floor_sees_its_own_difference_and_no_other(floor, differing):
    aucs = {name: _auc(_cohort(**differing), name) for name in predict_floors(_cohort())}
    assert aucs.pop(floor) > 0.95
    assert aucs.pop("class_prior") == 0.5
    assert all(auc < 0.75 for auc in aucs.values())


def test_a_fold_is_predicted_from_the_others_only():
    cohort = _cohort(signal=1.0)
    predicted = predict_floors(cohort)["mean_pooling"]
    inside, outside = cohort.folds == 2, cohort.folds != 2
    scaler = StandardScaler().fit(cohort.pooled[2][outside])
    model = LogisticRegression(class_weight="balanced", max_iter=10_000)
    model.fit(scaler.transform(cohort.pooled[2][outside]), cohort.targets[outside])
    np.testing.assert_allclose(
        predicted.probabilities[predicted.folds == 2],
        model.predict_proba(scaler.transform(cohort.pooled[2][inside])),
    )


def test_labels_of_the_test_fold_change_no_prediction_of_it():
    cohort = _cohort(signal=1.0)
    targets = cohort.targets.copy()
    targets[cohort.folds == 2] = 1 - targets[cohort.folds == 2]
    other = dataclasses.replace(cohort, targets=targets)
    ours, theirs = (predict_floors(c)["mean_pooling"].of_replicate(2, 0) for c in (cohort, other))
    assert np.array_equal(ours.probabilities, theirs.probabilities)


def test_every_fold_reads_its_own_pooled_features():
    cohort = _cohort()
    informative = cohort.targets[:, None] * np.ones((1, 7)) + np.zeros((NUM_PATIENTS, 7))
    mixed = dataclasses.replace(cohort, pooled={**cohort.pooled, 3: informative})
    predicted = predict_floors(mixed)["mean_pooling"].of_replicate(3, 0)
    assert (predicted.probabilities.argmax(1) == predicted.targets).all()


def test_without_colour_that_floor_is_left_out():
    cohort = dataclasses.replace(_cohort(), colour=None)
    assert list(predict_floors(cohort)) == ["class_prior", "cell_count", "mean_pooling"]
