"""Comparisons as tables for the terminal, Markdown, LaTeX and CSV."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from tabulate import tabulate

from aml_mil.evaluation.bootstrap import MACRO, Interval, Intervals
from aml_mil.evaluation.comparison import Comparison, PairedDifferences, Row
from aml_mil.evaluation.metrics import METRICS
from aml_mil.evaluation.stress import UNCHANGED, StressReport
from aml_mil.report.numbers import (
    format_figure_with_interval,
    format_number,
    signed_interval,
)

Style = Literal["text", "markdown", "latex"]

PER_CLASS_METRICS = ("f1", "precision", "recall", "roc_auc", "pr_auc")
CSV_HEADER = ("group", "name", "kind", "metric", "mean", "sd", "averaged", "low", "high", "best")
COLOUR_FLOOR = "floor: colour"
METRIC_TITLES = {
    "f1": "F1",
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "precision": "precision",
    "recall": "recall",
    "balanced_accuracy": "balanced accuracy",
    "brier": "Brier score",
    "calibration_error": "calibration error",
}
CAPTION = (
    "mean ± s.d. over folds x seeds (95% interval over patients, seeds averaged); "
    "bold: best, or not to be told apart from the best in a paired comparison"
)

_FORMATS: dict[Style, str] = {"text": "simple", "markdown": "pipe", "latex": "latex_raw"}
_LATEX_SPECIAL = str.maketrans(
    {c: rf"\{c}" for c in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "–": "--", "−": "$-$"}
)


def table_1(comparison: Comparison, *, style: Style) -> str:
    """Lay out the macro figures of every run, floors below."""
    rows = comparison.of_group(MACRO)
    header = ["model", *(METRIC_TITLES[m] for m in METRICS)]
    return _table([_cells(row, METRICS, style) for row in rows], header, style)


def per_class_table(comparison: Comparison, *, style: Style) -> str:
    """Lay out the figures of every class, floors below the runs."""
    body = [
        [_escape(row.group, style), *_cells(row, PER_CLASS_METRICS, style)]
        for label in comparison.classes
        for row in comparison.of_group(label)
    ]
    header = ["class", "model", *(METRIC_TITLES[m] for m in PER_CLASS_METRICS)]
    return _table(body, header, style)


def paired_table(paired: Sequence[PairedDifferences], *, style: Style) -> str:
    """Lay out the macro differences of every pair of runs with their intervals."""
    body = []
    for pair in paired:
        cells = [f"{pair.first} − {pair.second}"]
        for metric in METRICS:
            cells.append(signed_interval(pair.intervals[metric][MACRO]))
        body.append([_escape(cell, style) for cell in cells])
    return _table(body, ["difference", *(METRIC_TITLES[m] for m in METRICS)], style)


def csv_rows(comparison: Comparison) -> list[tuple[object, ...]]:
    """Return every figure in a row of its own, under `CSV_HEADER`; undefined figures are empty."""
    return [
        (
            row.group,
            row.name,
            "floor" if row.is_floor else "model",
            metric,
            *(_plain(value) for value in figure.to_json().values()),
            "yes" if metric in row.best else "",
        )
        for row in comparison.rows
        for metric, figure in row.figures.items()
    ]


def _cells(row: Row, metrics: Sequence[str], style: Style) -> list[str]:
    name = f"floor: {row.name}" if row.is_floor else row.name
    cells = [_escape(name, style)]
    for metric in metrics:
        text = _escape(format_figure_with_interval(row.figures.get(metric)), style)
        cells.append(_embolden(text, style) if metric in row.best else text)
    return cells


def _embolden(text: str, style: Style) -> str:
    marks = {"text": ("*", "*"), "markdown": ("**", "**"), "latex": (r"\textbf{", "}")}
    before, after = marks[style]
    return f"{before}{text}{after}"


def _escape(text: str, style: Style) -> str:
    if style == "latex":
        return text.translate(_LATEX_SPECIAL)
    return text.replace("|", r"\|") if style == "markdown" else text


def _plain(value: float | None) -> object:
    return "" if value is None else repr(value)


def _table(rows: Sequence[Sequence[str]], header: Sequence[str], style: Style) -> str:
    titles = [_escape(title, style) for title in header]
    return tabulate(rows, headers=titles, tablefmt=_FORMATS[style], disable_numparse=True)


def comparison_json(comparison: Comparison) -> dict[str, object]:
    """Return a comparison as one JSON document."""
    return {
        "classes": list(comparison.classes),
        "runs": {name: found.to_json() for name, found in comparison.assessments.items()},
        "floors": _floors_json(comparison),
        "best": {
            group: {row.name: sorted(row.best) for row in comparison.of_group(group) if row.best}
            for group in (MACRO, *comparison.classes)
        },
        "paired": [
            {
                "first": pair.first,
                "second": pair.second,
                "difference": intervals_json(pair.intervals),
            }
            for pair in comparison.paired
        ],
        "floors_reached": [reached._asdict() for reached in comparison.floors_reached],
        "sentences": list(comparison.floor_sentences),
        "notes": list(comparison.notes),
    }


def _floors_json(comparison: Comparison) -> dict[str, dict[str, object]]:
    floors: dict[str, dict[str, object]] = {}
    for row in comparison.rows:
        if row.is_floor:
            figures = {metric: figure.to_json() for metric, figure in row.figures.items()}
            floors.setdefault(row.name, {})[row.group] = figures
    return floors


def stress_rows(document: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the macro figures without a change, then under each, with the change's interval.

    Below each stand those of the floor of colour, where there is one.

    Args:
        document: As `stress_json` writes it.
    """
    rows = [(UNCHANGED, "", *(_averaged(document[UNCHANGED], m) for m in METRICS))]
    rows += _floor_rows(document)
    for name, fall in document["perturbations"].items():
        change = {m: Interval(**fall["difference"][m][MACRO]) for m in METRICS}
        cells = (f"{_averaged(fall, m)} ({signed_interval(change[m])})" for m in METRICS)
        rows.append((name, fall["amount"], *cells))
        rows += _floor_rows(fall)
    return rows


def _floor_rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    floor = found.get("floor")
    return [(COLOUR_FLOOR, "", *(_averaged(floor, m) for m in METRICS))] if floor else []


def stress_json(report: StressReport) -> dict[str, object]:
    """Return a stress test as one JSON document."""
    return {
        "num_patients": report.num_patients,
        "num_cells": report.num_cells,
        "engine": report.engine,
        "precision": report.precision,
        UNCHANGED: report.unchanged.to_json(),
        "floor": None if report.floor is None else report.floor.to_json(),
        "perturbations": {
            name: {
                "amount": fall.perturbation.amount,
                **fall.assessment.to_json(),
                "difference": intervals_json(fall.difference),
                "falls_clearly": fall.is_clear,
                "floor": None if fall.floor is None else fall.floor.to_json(),
            }
            for name, fall in report.falls.items()
        },
        "sentences": list(report.sentences),
    }


def intervals_json(intervals: Intervals) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return intervals as JSON values."""
    return {
        metric: {
            label: {"estimate": i.estimate, "low": i.low, "high": i.high}
            for label, i in by_label.items()
        }
        for metric, by_label in intervals.items()
    }


def _averaged(assessment: Mapping[str, Any], metric: str) -> str:
    return format_number(assessment["macro"][metric]["averaged"])
