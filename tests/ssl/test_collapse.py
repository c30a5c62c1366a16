import dataclasses
import math

import numpy as np
import pytest
import torch

from aml_mil.ssl.collapse import Health, find_alarms, perplexity, rankme, spread_on_sphere

HEALTHY = Health(
    loss=3.0, chance_loss=5.7, rankme=40.0, spread=0.8, perplexity=120.0, knn_accuracy=0.6
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_rankme_follows_its_formula() -> None:
    features = noise(30, 7)
    singular = np.linalg.svd(features.double().numpy(), compute_uv=False)
    shares = singular / singular.sum()
    expected = math.exp(-sum(p * math.log(p) for p in shares))
    assert rankme(features) == pytest.approx(expected, rel=1e-9)


def test_rankme_counts_directions_in_use() -> None:
    assert rankme(torch.eye(6)) == pytest.approx(6)
    assert rankme(torch.ones(9, 5) * torch.arange(1, 10)[:, None]) == pytest.approx(1)
    assert rankme(noise(20, 5) * 100) == pytest.approx(rankme(noise(20, 5)))


def test_the_spread_is_zero_for_one_direction_and_about_one_for_all() -> None:
    assert spread_on_sphere(torch.ones(50, 8) * torch.rand(50, 1)) == pytest.approx(0, abs=1e-6)
    assert spread_on_sphere(noise(4000, 64)) == pytest.approx(1, abs=0.02)


def test_perplexity_counts_outcomes() -> None:
    assert float(perplexity(torch.full((300,), 1 / 300))) == pytest.approx(300, rel=1e-5)
    assert float(perplexity(torch.tensor([1.0, 0.0, 0.0]))) == pytest.approx(1)


def test_a_healthy_epoch_raises_no_alarm() -> None:
    assert find_alarms(HEALTHY, start=HEALTHY, epoch=3) == ()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"loss": 5.69}, "loss"),
        ({"loss": math.nan}, "loss"),
        ({"rankme": 1.2}, "rank"),
        ({"spread": 0.01}, "spread"),
        ({"perplexity": 1.1}, "perplexity"),
        ({"knn_accuracy": 0.4}, "knn"),
    ],
)
def test_each_sign_raises_its_own_alarm_and_says_what_to_try(
    change: dict[str, float], kind: str
) -> None:
    (alarm,) = find_alarms(dataclasses.replace(HEALTHY, **change), start=HEALTHY, epoch=3)
    assert (alarm.kind, alarm.epoch) == (kind, 3)
    assert "try" in alarm.message or "look at" in alarm.message


def test_a_loss_of_chance_is_no_alarm_while_warming_up() -> None:
    health = dataclasses.replace(HEALTHY, loss=5.7)
    assert find_alarms(health, start=HEALTHY, epoch=1, is_early=True) == ()


def test_what_was_not_measured_raises_no_alarm() -> None:
    health = dataclasses.replace(HEALTHY, spread=None, perplexity=None, knn_accuracy=None)
    assert find_alarms(health, start=HEALTHY, epoch=3) == ()
