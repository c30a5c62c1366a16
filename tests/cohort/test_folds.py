import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_mil.cohort import (
    CohortError,
    FoldsError,
    check_folds,
    make_folds,
    read_folds,
    roles_of,
    write_folds,
)

LABELS = {f"P{i}": "control" if i % 3 else "APL" for i in range(47)}


@given(
    counts=st.lists(st.integers(5, 23), min_size=1, max_size=4),
    num_folds=st.integers(3, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_label_is_spread_evenly_over_the_folds(
    counts: list[int], num_folds: int, seed: int
) -> None:
    labels = {f"{k}-{i}": f"label {k}" for k, n in enumerate(counts) for i in range(n)}
    folds = make_folds(labels, num_folds=num_folds, seed=seed)
    assert folds.keys() == labels.keys()
    for label in set(labels.values()):
        sizes = Counter(folds[p] for p in labels if labels[p] == label)
        assert max(sizes.values()) - min(sizes[k] for k in range(num_folds)) <= 1


def test_folds_do_not_depend_on_the_order_of_patients() -> None:
    shuffled = list(LABELS.items())
    random.Random(3).shuffle(shuffled)
    expected = make_folds(LABELS, num_folds=5, seed=7)
    assert make_folds(dict(shuffled), num_folds=5, seed=7) == expected


def test_another_seed_gives_other_folds() -> None:
    assert make_folds(LABELS, num_folds=5, seed=0) != make_folds(LABELS, num_folds=5, seed=1)


@pytest.mark.parametrize("num_folds", [3, 4, 5])
def test_no_patient_has_two_roles_and_each_is_tested_and_validated_once(num_folds: int) -> None:
    folds = make_folds(LABELS, num_folds=num_folds, seed=0)
    tested, validated = [], []
    for fold in range(num_folds):
        roles = roles_of(folds, fold)
        assert sorted(roles.train + roles.validation + roles.test) == sorted(LABELS)
        assert all(folds[p] == fold for p in roles.test)
        assert all(folds[p] == (fold + 1) % num_folds for p in roles.validation)
        tested += roles.test
        validated += roles.validation
    assert sorted(tested) == sorted(validated) == sorted(LABELS)


def test_a_label_with_fewer_patients_than_folds_is_an_error_that_names_it() -> None:
    labels = {**LABELS, "X1": "rare", "X2": "rare"}
    with pytest.raises(FoldsError, match=r"fewer patients than the 5 folds: rare has 2 \(1\)"):
        make_folds(labels, num_folds=5, seed=0)


def test_fewer_than_three_folds_are_an_error() -> None:
    with pytest.raises(ValueError, match="at least 3 folds"):
        make_folds(LABELS, num_folds=2, seed=0)


def test_no_labels_are_an_error() -> None:
    with pytest.raises(FoldsError, match="no labelled patients"):
        make_folds({}, num_folds=5, seed=0)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_that_is_not_there_is_an_error(fold: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 4, got {fold}"):
        roles_of(make_folds(LABELS, num_folds=5, seed=0), fold)


def test_folds_are_read_as_written_and_rows_are_in_natural_order(tmp_path: Path) -> None:
    folds = {**make_folds(LABELS, num_folds=5, seed=0), 'a,"b" ü': 3}
    path = tmp_path / "new" / "folds.csv"
    write_folds(path, folds)
    assert read_folds(path) == folds
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "patient_id,fold"
    assert [line.partition(",")[0] for line in lines[1:4]] == ["P0", "P1", "P2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient_id,split\nA,0\n", "columns missing in .*: fold"),
        ("patient_id,fold\nA,x\n", "a fold number in .*, got 'A', 'x'"),
        ("patient_id,fold\nA,-1\n", "a fold number in .*, got 'A', '-1'"),
        ("patient_id,fold\nA,0\nA,1\n", "patient A stands twice"),
        ("patient_id,fold\nA,0\nB,1\nC,3\n", "without a gap, got 0, 1, 3"),
        ("patient_id,fold\nA,0\nB,1\n", "at least 3 folds, got 2"),
    ],
)
def test_a_folds_file_that_cannot_be_used_is_an_error(
    tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "folds.csv"
    path.write_text(text)
    with pytest.raises(CohortError, match=message):
        read_folds(path)


def test_folds_of_these_patients_pass() -> None:
    check_folds({"A": 0, "B": 1, "C": 2}, ["C", "B", "A"])


def test_folds_of_another_cohort_are_an_error_naming_ids_both_ways() -> None:
    with pytest.raises(FoldsError) as caught:
        check_folds({"A": 0, "X": 1, "Y": 2}, ["A", "B"])
    message = str(caught.value)
    assert "patients without a fold: B (1 of 2)" in message
    assert "folds of unknown patients: X, Y (2 of 3)" in message
