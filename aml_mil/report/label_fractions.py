"""What a probe left in a run folder: figures over the share of the labels that is known."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.metrics import METRICS
from aml_mil.report.numbers import NONE, format_interval
from aml_mil.report.run_tables import Table
from aml_mil.report.tables import METRIC_TITLES

CURVES_FILE = "probe_curves.csv"
METHOD_NAMES = MappingProxyType(
    {
        "giga": "Giga-SSL + logistic regression",
        "giga_random": "untrained encoder + logistic regression",
        "mean_pooling": "mean features + logistic regression",
        "colour": "colour + logistic regression",
        "fit_mil": "fit-mil",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One method at one share of the labels, a row of probe_curves.csv.

    Attributes:
        method: Name.
        fraction: Of the labels, up to 1.
        num_labels: Known labels, mean over folds.
        metric: f1, roc_auc or pr_auc, macro.
        mean: Over the draws.
        sd: Over the draws, with n - 1; None for one draw.
        low: Lower end of the 95% interval over test patients.
        high: Upper end.
    """

    method: str
    fraction: float
    num_labels: float
    metric: str
    mean: float
    sd: float | None
    low: float | None
    high: float | None

    @property
    def title(self) -> str:
        """The method's name for readers."""
        return METHOD_NAMES.get(self.method, self.method)


def read_label_fractions(folder: Path) -> tuple[CurvePoint, ...]:
    """Read the curves that a probe left in a run folder; none without them.

    Raises:
        EvaluationError: The file is not as probe writes it.
    """
    path = folder / CURVES_FILE
    if not path.exists():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        try:
            return tuple(_point(row) for row in csv.DictReader(file))
        except (KeyError, TypeError, ValueError) as error:
            raise EvaluationError(
                f"{path} is not as probe writes it ({error}); run probe again, or take it away"
            ) from error


def label_fraction_table(points: Sequence[CurvePoint]) -> Table:
    """Return a row for every method and share."""
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for point in points:
        share = f"{point.fraction:.0%} ({point.num_labels:.0f})"
        rows.setdefault((point.title, share), {})[point.metric] = format_interval(
            point.mean, point.low, point.high
        )
    return Table(
        caption="Macro figures with a share of the labels: mean over draws of the labels "
        "(95% interval over test patients)",
        header=("method", "known labels", *(METRIC_TITLES[m] for m in METRICS)),
        rows=tuple(
            (*place, *(found.get(metric, NONE) for metric in METRICS))
            for place, found in rows.items()
        ),
    )


def _point(row: dict[str, str]) -> CurvePoint:
    return CurvePoint(
        method=row["method"],
        fraction=float(row["fraction"]),
        num_labels=float(row["num_labels"]),
        metric=row["metric"],
        mean=float(row["mean"]),
        sd=_optional(row["sd"]),
        low=_optional(row["low"]),
        high=_optional(row["high"]),
    )


def _optional(text: str) -> float | None:
    return float(text) if text else None
