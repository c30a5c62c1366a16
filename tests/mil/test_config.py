import json

import pytest

from aml_mil.mil.config import FitConfig


def test_defaults_are_the_recipes():
    assert FitConfig().to_json() == {
        "num_folds": 5,
        "fold_seed": 0,
        "seeds": 3,
        "epochs": 50,
        "patience": 20,
        "lr": 0.015,
        "momentum": 0.9,
        "accumulate": 10,
        "standardize": False,
        "sampling": "balanced",
        "max_cells": 500,
        "dropout": 0.0,
        "widths": [300, 200, 150, 100],
        "pool": "attention",
        "attention": "class",
        "attention_hidden": 128,
        "classifier_hidden": 64,
        "precision": "fp32",
        "device": "auto",
    }


def test_a_saved_config_can_be_given_back():
    config = FitConfig(lr=0.1, widths=(7, 5), precision="bf16")
    assert FitConfig(**json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_folds": 0}, "num_folds: expected 1 to"),
        ({"seeds": 0}, "seeds: expected 1 to 10000, got 0"),
        ({"epochs": 0}, "epochs: expected 1 to"),
        ({"accumulate": 0}, "accumulate: expected 1 to"),
        ({"max_cells": 0}, "max_cells: expected 1 to"),
        ({"widths": ()}, "widths: expected numbers from 1 to 65536"),
        ({"lr": 0}, "lr: expected a positive number"),
        ({"widths": (300, 10**12)}, "widths: expected numbers from 1 to 65536"),
        ({"seeds": 10**7}, "seeds: expected 1 to 10000"),
        ({"max_cells": 10**30}, "max_cells: expected 1 to 1000000000"),
        ({"fold_seed": 2**32}, "fold_seed: expected 0 to 4294967295"),
        ({"lr": float("inf")}, "lr: expected a positive number"),
        ({"lr": float("nan")}, "lr: expected a positive number"),
        ({"momentum": 1.0}, "momentum: expected"),
        ({"fold_seed": -1}, "fold_seed: expected 0 to 4294967295"),
        ({"dropout": 1.0}, "dropout: expected 0 ≤ dropout < 1"),
        ({"pool": "median"}, "pool: expected one of attention, mean, max, got 'median'"),
        ({"pool": "mean", "attention": "gated"}, "attention: has no effect with pool mean"),
        ({"pool": "max", "attention_hidden": 64}, "attention_hidden: has no effect with pool max"),
        ({"precision": "fp8"}, "precision: expected one of fp64, fp32, bf16, fp16, got 'fp8'"),
    ],
)
def test_a_value_outside_its_range_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        FitConfig(**values)
