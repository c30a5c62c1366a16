import csv

import numpy as np
import pytest

from aml_mil.evaluation import (
    EvaluationError,
    Predictions,
    concatenate,
    prediction_rows,
    read_predictions,
)

PREDICTIONS = Predictions(
    classes=("APL", "AML, other"),
    patient_ids=("P, 1", "P2", "P2"),
    targets=np.array([0, 1, 1]),
    folds=np.array([0, 0, 1]),
    seeds=np.array([0, 0, 2]),
    roles=("test", "train", "validation"),
    probabilities=np.array([[0.1, 0.9], [1 / 3, 2 / 3], [1e-17, 1.0]]),
)


def _write(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_what_is_written_is_read_to_the_last_bit(tmp_path):
    again = read_predictions(_write(tmp_path / "p.csv", *prediction_rows(PREDICTIONS)))
    assert again.classes == PREDICTIONS.classes
    assert again.patient_ids == PREDICTIONS.patient_ids
    assert again.roles == PREDICTIONS.roles
    for name in ("targets", "folds", "seeds", "probabilities"):
        assert np.array_equal(getattr(again, name), getattr(PREDICTIONS, name))


def test_rows_are_chosen_by_role_and_replicate():
    assert PREDICTIONS.of_role("train").patient_ids == ("P2",)
    chosen = PREDICTIONS.of_replicate(1, 2)
    assert (chosen.roles, chosen.probabilities.tolist()) == (("validation",), [[1e-17, 1.0]])


def test_parts_are_put_one_after_the_other():
    both = concatenate([PREDICTIONS.of_role("test"), PREDICTIONS.of_role("validation")])
    assert both.patient_ids == ("P, 1", "P2")
    assert both.targets.tolist() == [0, 1]


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(EvaluationError, match=r"expected predictions in .*found none"):
        read_predictions(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("row", "column", "value", "message"),
    [
        (None, 0, "patient", "expected the columns patient_id, label, fold, seed, role"),
        (0, 1, "unknown", "a row is not as fit-mil writes it"),
        (1, 2, "first", "a row is not as fit-mil writes it"),
        (1, 4, "testing", "unknown role 'testing'"),
        (2, 5, "high", "a row is not as fit-mil writes it"),
    ],
)
def test_a_damaged_table_is_refused(row, column, value, message, tmp_path):
    header, rows = prediction_rows(PREDICTIONS)
    (header if row is None else rows[row])[column] = value
    with pytest.raises(EvaluationError, match=message):
        read_predictions(_write(tmp_path / "p.csv", header, rows))
