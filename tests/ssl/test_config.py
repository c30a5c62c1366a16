import dataclasses
import json
import re

import numpy as np
import pytest

from aml_mil.ssl.method import RunLength
from aml_mil.ssl.methods import CONFIGS, build_method, method_name


@pytest.mark.parametrize("name", CONFIGS)
def test_every_setting_is_described_with_its_source(name: str) -> None:
    text = CONFIGS[name].__doc__ or ""
    for field in dataclasses.fields(CONFIGS[name]):
        entry = re.search(rf"^ {{8}}{field.name}: (.*?)(?=^ {{8}}\w+: |\Z)", text, re.M | re.S)
        assert entry, field.name
        assert "Source:" in entry[1], field.name


@pytest.mark.parametrize("name", CONFIGS)
def test_a_setting_is_described_once(name: str) -> None:
    entries = re.findall(r"^ {8}(\w+): ", CONFIGS[name].__doc__ or "", re.MULTILINE)
    assert sorted(entries) == sorted(field.name for field in dataclasses.fields(CONFIGS[name]))


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_survive_json(name: str) -> None:
    config = CONFIGS[name](epochs=3, seed=5)
    assert CONFIGS[name](**json.loads(json.dumps(config.to_json()))) == config
    assert method_name(config) == name


RECIPE = {
    "simclr": {"epochs": 500, "batch_size": 512, "lr": 0.3, "temperature": 0.1, "warmup": 0.1},
    "swav": {"prototypes": 300, "epsilon": 0.05, "sinkhorn_iterations": 3, "local_crops": 6},
    "dino": {"lr": 0.0005, "ema": 0.996, "clip": 3.0, "outputs": 4096, "local_crops": 8},
    "supervised": {"architecture": "resnet34", "epochs": 50, "lr": 5e-4, "momentum": 0.9},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_defaults_are_the_recipe_s(name: str) -> None:
    settings = CONFIGS[name]().to_json()
    assert {key: settings[key] for key in RECIPE[name]} == RECIPE[name]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("simclr", {"temperature": 0.0}),
        ("simclr", {"batch_size": 1}),
        ("swav", {"prototypes": 1}),
        ("swav", {"epsilon": -0.1}),
        ("dino", {"ema": 1.5}),
        ("supervised", {"momentum": 1.0}),
        ("supervised", {"epochs": 0}),
        ("simclr", {"lr": 0.0}),
        ("simclr", {"min_scale": 1.5}),
        ("simclr", {"jitter": 1.5}),
        ("swav", {"jitter": 1.5}),
        ("swav", {"min_scale": 0.3}),
        ("dino", {"split_scale": 1.5}),
        ("dino", {"jitter": -0.1}),
        ("supervised", {"jitter": 1.5}),
    ],
)
def test_values_out_of_range_are_named(name: str, change: dict[str, float]) -> None:
    (setting,) = change
    with pytest.raises(ValueError, match=f"{setting}: expected"):
        CONFIGS[name](**change)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("simclr", {"min_scale": 1.0, "jitter": 1.0}),
        ("swav", {"min_scale": 0.14, "split_scale": 0.14, "jitter": 1.0}),
        ("dino", {"min_scale": 1.0, "split_scale": 1.0, "jitter": 1.0}),
        ("supervised", {"jitter": 1.0}),
    ],
)
def test_views_can_be_made_at_the_ends_of_the_ranges(name: str, change: dict[str, float]) -> None:
    config = CONFIGS[name](architecture="test_resnet", **change)
    views = build_method(config, RunLength(epochs=1, steps_per_epoch=1), num_types=2).views()
    assert len(views(np.zeros((32, 32, 3), np.uint8), epoch=0, cell=0)) == len(views)


def test_the_queue_is_used_only_when_the_batch_is_smaller_than_the_prototypes() -> None:
    swav = CONFIGS["swav"]
    assert not swav(batch_size=512).uses_queue
    assert swav(batch_size=128).uses_queue
    assert not swav(batch_size=128, queue_length=0).uses_queue
