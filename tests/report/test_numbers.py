import pytest

from aml_mil.evaluation.assessment import Figure
from aml_mil.evaluation.bootstrap import Interval
from aml_mil.report.numbers import format_figure_with_interval, format_interval, signed_interval


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(mean=0.875, sd=0.05, averaged=0.9, low=0.8, high=0.951), "0.88 ± 0.05 (0.80–0.95)"),
        (Figure(mean=0.5, sd=0.25), "0.50 ± 0.25"),
        (Figure(mean=0.5), "0.50"),
        (Figure(mean=None), "–"),
        (None, "–"),
    ],
)
def test_a_figure_is_written_as_far_as_it_is_defined(figure: Figure | None, text: str) -> None:
    assert format_figure_with_interval(figure) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.875, 0.8, 0.951), "0.88 (0.80–0.95)"),
        ((0.875, None, None), "0.88"),
        ((0.875, None, 0.9), "0.88"),
        ((None, None, None), "–"),
    ],
)
def test_an_interval_stands_behind_its_figure(values: tuple[float | None, ...], text: str) -> None:
    assert format_interval(*values) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [((-0.125, -0.25, 0.0), "-0.12, -0.25 to +0.00"), ((-0.125, None, None), "–")],
)
def test_a_difference_has_its_sign(values: tuple[float | None, ...], text: str) -> None:
    estimate, low, high = values
    assert signed_interval(Interval(estimate=estimate, low=low, high=high)) == text
