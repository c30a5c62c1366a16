"""From a store to a run folder on a GPU, played or real."""

import csv

import numpy as np
import pytest

from aml_mil.mil import fit
from tests.mil.cases import NUM_CLASSES, NUM_FEATURES, small_config, write_store


def run(store, out_dir, **changes):
    config = small_config(**{"num_folds": 3, "seeds": 2, "epochs": 3, **changes})
    *_, summary = fit(store, out_dir=out_dir, config=config)
    with (out_dir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name.startswith("prob_")]
    return summary, np.array([[float(row[name]) for name in names] for row in rows])


@pytest.mark.parametrize("side", [0, 5])
def test_a_run_on_a_gpu_predicts_as_on_a_cpu(gpu, tmp_path, side):
    shape = (NUM_FEATURES, side, side) if side else (NUM_FEATURES,)
    store = write_store(tmp_path / "toy.zarr", feature_shape=shape)
    settings = {"precision": "fp64", "standardize": True, "dropout": 0.2}
    _, expected = run(store, tmp_path / "cpu", device="cpu", **settings)
    _, found = run(store, tmp_path / "cuda", device="cuda", **settings)
    assert expected.shape[1] == NUM_CLASSES
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_16_bit_heads_on_a_gpu_are_compared_with_fp32(gpu, tmp_path, precision):
    store = write_store(tmp_path / "toy.zarr")
    summary, _ = run(store, tmp_path / "run", device="cuda", precision=precision)
    assert 0 < summary.metrics["probability_gap_to_fp32"] < 0.01
