"""The table that stands at the end of a run: the model, and below it its floors.

Rows are plain values; the command line draws them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aml_mil.evaluation.metrics import METRICS

OVERALL = "macro"


@dataclass(frozen=True, slots=True, kw_only=True)
class TableRow:
    """One line.

    Attributes:
        name: The model or a floor.
        group: ``macro`` or a class.
        figures: Mean and s.d. by metric, None where undefined.
    """

    name: str
    group: str
    figures: Mapping[str, tuple[float | None, float | None]]


def metrics_table(metrics: Mapping[str, Any], *, name: str = "model") -> tuple[TableRow, ...]:
    """Lay a run's metrics.json out as rows: macro first, then each class, floors below the model.

    Args:
        metrics: The document.
        name: What the model is called.
    """
    floors: Mapping[str, Any] = metrics["floors"]
    rows = [_row(name, OVERALL, metrics["macro"])]
    rows += [_row(floor, OVERALL, figures) for floor, figures in floors.items()]
    for label, figures in metrics["per_class"].items():
        rows.append(_row(name, label, figures))
        rows += [_row(floor, label, f["per_class"][label]) for floor, f in floors.items()]
    return tuple(rows)


def format_figure(mean: float | None, sd: float | None) -> str:
    """Write mean ± s.d. with two digits after the point, "–" where there is none."""
    if mean is None:
        return "–"
    return f"{mean:.2f}" if sd is None else f"{mean:.2f} ± {sd:.2f}"


def _row(name: str, group: str, figures: Mapping[str, Any]) -> TableRow:
    return TableRow(
        name=name,
        group=group,
        figures={m: (figures[m]["mean"], figures[m]["sd"]) for m in METRICS},
    )
