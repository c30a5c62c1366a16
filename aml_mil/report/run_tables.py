"""Tables of the report: plain texts in rows, which the template draws and escapes."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aml_mil.evaluation.attention import AttentionByType
from aml_mil.evaluation.bootstrap import MACRO
from aml_mil.evaluation.comparison import Comparison, Row
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.metrics import METRICS
from aml_mil.report.numbers import NONE, format_figure_with_interval, format_interval
from aml_mil.report.tables import (
    COLOUR_FLOOR,
    METRIC_TITLES,
    PER_CLASS_METRICS,
    stress_rows,
)

STRESS_FILE = "stress.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of texts; the first cell of a row names it.

    Attributes:
        caption: What the table shows.
        header: Titles of the columns.
        rows: As long as the header each.
        soft_rows: Rows shown in a softer colour, such as floors.
    """

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    soft_rows: frozenset[int] = frozenset()


def result_tables(comparison: Comparison) -> tuple[Table, Table]:
    """Return the macro figures beside the floors, and those of every class."""
    caption = "mean ± s.d. over folds × seeds (95% interval over patients, seeds averaged)"
    macro = comparison.of_group(MACRO)
    first = Table(
        caption=f"Macro average over the classes: {caption}",
        header=("model", *(METRIC_TITLES[m] for m in METRICS)),
        rows=tuple((_name(row), *_texts(row, METRICS)) for row in macro),
        soft_rows=frozenset(i for i, row in enumerate(macro) if row.is_floor),
    )
    rows = [row for label in comparison.classes for row in comparison.of_group(label)]
    second = Table(
        caption=f"Each class against the others: {caption}",
        header=("class", "model", *(METRIC_TITLES[m] for m in PER_CLASS_METRICS)),
        rows=tuple((row.group, _name(row), *_texts(row, PER_CLASS_METRICS)) for row in rows),
        soft_rows=frozenset(i for i, row in enumerate(rows) if row.is_floor),
    )
    return first, second


def attention_table(by_type: AttentionByType) -> Table:
    """Return mean attention by cell type, highest first."""
    return Table(
        caption="Attention of a cell relative to its patient's average cell (95% interval over "
        "patients)",
        header=("cell type", "kind", "attention", "cells", "patients"),
        rows=tuple(
            (
                t.cell_type,
                t.kind or NONE,
                format_interval(t.attention.estimate, t.attention.low, t.attention.high),
                str(t.num_cells),
                str(t.num_patients),
            )
            for t in by_type.types
        ),
    )


def type_table(types: Counter[str]) -> Table:
    """Return how many cells an expert has called each type, most frequent first."""
    return Table(
        caption="Cells by expert's type",
        header=("cell type", "cells"),
        rows=tuple((name or "not annotated", str(num)) for name, num in types.most_common()),
    )


def stress_table(folder: Path) -> tuple[Table, tuple[str, ...]] | None:
    """Return what `aml-mil stress` left in a run folder, and its sentences; None without it.

    Raises:
        EvaluationError: The file is not as `aml-mil stress` writes it.
    """
    path = folder / STRESS_FILE
    if not path.exists():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(stress_rows(document))
        sentences = tuple(map(str, document["sentences"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        message = f"{path} is not as `aml-mil stress` writes it ({error}); run stress again"
        raise EvaluationError(message) from error
    table = Table(
        caption="Macro figures with changed stain, light and optics (change against unchanged, "
        "paired 95% interval over patients); the floor of colour sees each patient's colour alone",
        header=("change", "amount", *(METRIC_TITLES[m] for m in METRICS)),
        rows=rows,
        soft_rows=frozenset(i for i, row in enumerate(rows) if row[0] == COLOUR_FLOOR),
    )
    return table, sentences


def _name(row: Row) -> str:
    return f"floor: {row.name}" if row.is_floor else row.name


def _texts(row: Row, metrics: Sequence[str]) -> tuple[str, ...]:
    return tuple(format_figure_with_interval(row.figures.get(metric)) for metric in metrics)


def median_and_range(values: Sequence[int]) -> str:
    """Write ``140 (52–528)``."""
    ordered = sorted(values)
    middle = (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2
    return f"{middle:g} ({ordered[0]}–{ordered[-1]})"
