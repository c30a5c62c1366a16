import numpy as np
import pytest

from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.ood import (
    BAG_SIZES,
    FALSE_WARNINGS,
    MIN_CELLS,
    TrainingPatients,
    measure_training_patients,
)
from aml_mil.evaluation.ood_run import read_training_patients
from aml_mil.mil import open_run
from aml_mil.mil.run_dir import FEATURES_FILE
from tests.evaluation.cohorts import Fitted


def draw_patients(
    num: int, *, seed: int, shift: float = 0.0, scale: float = 1.0, cells: int = 120
) -> list[np.ndarray]:
    """Patients who differ a little, each with cells around it."""
    rng = np.random.default_rng(seed)
    return [
        (
            shift
            + rng.normal(0, 0.3, (1, 16))
            + scale * np.exp(rng.normal(0, 0.1, (1, 16))) * rng.normal(0, 1, (cells, 16))
        ).astype(np.float16)
        for _ in range(num)
    ]


@pytest.fixture(scope="module")
def trained() -> TrainingPatients:
    return measure_training_patients(draw_patients(60, seed=0))


def share_far(trained: TrainingPatients, bags: list[np.ndarray]) -> float:
    return float(np.mean([trained.distance(bag, fold=0) > 1 for bag in bags]))


@pytest.mark.parametrize("cells", [*BAG_SIZES, 300])
def test_patients_alike_are_rarely_far_whatever_their_number_of_cells(
    trained: TrainingPatients, cells: int
) -> None:
    assert share_far(trained, draw_patients(300, seed=1, cells=cells)) <= 0.05


@pytest.mark.parametrize("change", [{"shift": 2.0}, {"scale": 0.2}, {"scale": 4.0}])
def test_patients_of_other_cells_are_far(
    trained: TrainingPatients, change: dict[str, float]
) -> None:
    for cells in BAG_SIZES:
        assert share_far(trained, draw_patients(40, seed=2, cells=cells, **change)) >= 0.95


def test_a_threshold_is_the_statistic_that_2_percent_of_the_others_exceed() -> None:
    bags = draw_patients(99, seed=3, cells=200)
    trained = measure_training_patients(bags)
    statistics = []
    for i, bag in enumerate(bags):
        others = np.stack(
            [
                np.r_[b.mean(0, dtype=float), np.log(b.std(0, dtype=float) + trained.cell_spread)]
                for j, b in enumerate(bags)
                if j != i
            ]
        )
        own = np.r_[bag.mean(0, dtype=float), np.log(bag.std(0, dtype=float) + trained.cell_spread)]
        statistics.append(np.abs((own - others.mean(0)) / others.std(0)).mean())
    assert trained.thresholds[0, -1] == pytest.approx(np.sort(statistics)[97])
    assert trained.false_warnings == pytest.approx(FALSE_WARNINGS)


def test_with_few_training_patients_the_expected_false_warnings_are_said() -> None:
    assert measure_training_patients(draw_patients(9, seed=0)).false_warnings == pytest.approx(0.1)


def test_few_cells_are_not_judged(trained: TrainingPatients) -> None:
    bag = draw_patients(1, seed=5, shift=9.0)[0]
    assert trained.distance(bag[: MIN_CELLS - 1], fold=0) is None
    assert trained.distance(bag[:MIN_CELLS], fold=0) > 1


def test_constant_features_and_lone_patients_give_finite_distances() -> None:
    bags = draw_patients(12, seed=6)
    for bag in bags:
        bag[:, 3] = 0
    trained = measure_training_patients(bags)
    assert trained.distance(bags[0], fold=0) <= 1
    nothing = [np.zeros((20, 4), np.float16)] * 3
    assert np.isfinite(measure_training_patients(nothing).distance(nothing[0], fold=0) or 0.0)
    assert measure_training_patients(bags[:1]).distance(bags[1], fold=0) == 0


def test_a_run_keeps_them_and_an_older_run_measures_them_again(
    tinted: Fitted, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_run(tinted.run)
    kept = read_training_patients(run)
    older = {"mean": np.zeros((3, 512)), "sd": np.ones((3, 512)), "num_cells": np.ones(3)}
    np.savez(tmp_path / FEATURES_FILE, **older)
    monkeypatch.setattr("aml_mil.evaluation.ood_run.FEATURES_FILE", str(tmp_path / FEATURES_FILE))
    again = read_training_patients(run)
    for name, array in kept.to_arrays().items():
        np.testing.assert_allclose(again.to_arrays()[name], array, err_msg=name)
    document = {**run.document["stores"][0], "path": str(tmp_path / "gone.zarr")}
    monkeypatch.setitem(run.document, "stores", [document])
    with pytest.raises(EvaluationError, match=r"does not hold the training patients.*gone\.zarr"):
        read_training_patients(run)
