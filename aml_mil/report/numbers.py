"""How figures and their intervals are written, with two digits after the point."""

from aml_mil.evaluation.assessment import Figure
from aml_mil.evaluation.bootstrap import Interval

NONE = "–"


def format_number(value: float | None) -> str:
    """Write ``0.88``, and "–" where there is none."""
    return NONE if value is None else f"{value:.2f}"


def format_interval(
    value: float | None, low: float | None, high: float | None, *, spread: str = ""
) -> str:
    """Write ``0.88 (0.80–0.94)`` as far as it is defined.

    Args:
        value: The figure.
        low: Lower end of its interval.
        high: Upper end.
        spread: Stands behind the figure.
    """
    if value is None:
        return NONE
    between = "" if low is None or high is None else f" ({low:.2f}–{high:.2f})"
    return f"{value:.2f}{spread}{between}"


def format_figure_with_interval(figure: Figure | None) -> str:
    """Write ``0.88 ± 0.04 (0.80–0.94)`` as far as it is defined."""
    if figure is None:
        return NONE
    spread = "" if figure.sd is None else f" ± {figure.sd:.2f}"
    return format_interval(figure.mean, figure.low, figure.high, spread=spread)


def signed_interval(interval: Interval) -> str:
    """Write ``-0.12, -0.20 to -0.05``, and "–" where an end is not defined."""
    values = (interval.estimate, interval.low, interval.high)
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return NONE
    return "{:+.2f}, {:+.2f} to {:+.2f}".format(*known)
