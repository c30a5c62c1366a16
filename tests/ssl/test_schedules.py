import itertools
import math

import pytest

from aml_mil.ssl.schedules import (
    cosine_schedule,
    length_in_steps,
    linear_schedule,
    warmup_cosine_schedule,
)


@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
def test_a_cosine_begins_and_ends_where_it_is_told(num_steps: int) -> None:
    ends = [
        cosine_schedule(s, num_steps=num_steps, start=0.04, end=0.4) for s in (0, num_steps - 1)
    ]
    assert ends[-1] == 0.4
    assert num_steps == 1 or ends[0] == pytest.approx(0.04)


def test_a_cosine_is_half_way_in_the_middle_and_follows_its_formula() -> None:
    values = [cosine_schedule(s, num_steps=11, start=2.0, end=0.0) for s in range(11)]
    assert values[5] == pytest.approx(1.0)
    assert values == pytest.approx([1 + math.cos(math.pi * s / 10) for s in range(11)])


def test_a_line_reaches_its_end_and_stays() -> None:
    values = [linear_schedule(s, num_steps=3, start=0.04, end=0.07) for s in range(6)]
    assert values == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.07, 0.07])
    assert linear_schedule(0, num_steps=0, start=0.04, end=0.07) == 0.07


def test_the_warm_up_really_happens() -> None:
    values = [
        warmup_cosine_schedule(s, num_steps=20, num_warmup_steps=5, peak=1.0, end=0.001)
        for s in range(20)
    ]
    assert values[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert values[5] == pytest.approx(1.0)
    assert values[-1] == 0.001
    assert all(a > b for a, b in itertools.pairwise(values[5:]))


def test_without_a_warm_up_the_first_step_is_the_peak() -> None:
    value = warmup_cosine_schedule(0, num_steps=9, num_warmup_steps=0, peak=0.3, end=0.0)
    assert value == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(0.0, 0), (0.1, 20), (1.0, 4), (15.0, 60), (1 / 500, 1), (99.0, 200)],
)
def test_lengths_are_shares_below_one_and_epochs_from_one(length: float, expected: int) -> None:
    assert length_in_steps(length, epochs=50, steps_per_epoch=4) == expected


def test_lengths_in_shares_scale_with_the_run() -> None:
    steps = [length_in_steps(10 / 300, epochs=e, steps_per_epoch=100) for e in (300, 30, 3)]
    assert steps == [1000, 100, 10]
