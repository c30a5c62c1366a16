"""What a probe leaves in its folder."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from aml_mil.files import write_file
from aml_mil.giga.errors import GigaError
from aml_mil.giga.label_curves import DrawFigures
from aml_mil.giga.probe import ProbeResult
from aml_mil.giga.probe_figure import draw_curves
from aml_mil.report.drawing import save_figure
from aml_mil.report.label_fractions import CURVES_FILE, CurvePoint
from stores import JSON

DRAWS_FILE, METRICS_FILE = "probe.csv", "probe.json"
FIGURE = "label_fractions"


def refuse_existing(folder: Path) -> None:
    """Protect an earlier probe.

    Raises:
        GigaError: There is one in the folder.
    """
    if (folder / DRAWS_FILE).exists():
        raise GigaError(f"{folder / DRAWS_FILE} exists already; choose another --out")


def write_probe(folder: Path, result: ProbeResult, *, about: dict[str, JSON]) -> tuple[Path, ...]:
    """Write tables, metrics and figure.

    Args:
        folder: Made if missing; a run folder will do, too.
        result: Of the probe.
        about: Settings and sources.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        **about,
        "num_patients": result.num_patients,
        "leakage": result.leakage,
        "skipped": {str(percent): reason for percent, reason in result.skipped.items()},
        "curves": [asdict(point) for point in result.points],
    }
    write_file(folder / CURVES_FILE, _table(CurvePoint, result.points))
    write_file(folder / METRICS_FILE, f"{json.dumps(document, indent=2)}\n".encode())
    figures: tuple[Path, ...] = ()
    if result.points:
        figure = draw_curves(result.points, num_patients=result.num_patients)
        figures = save_figure(figure, folder, FIGURE)
    write_file(folder / DRAWS_FILE, _table(DrawFigures, result.draws))
    return folder / DRAWS_FILE, folder / CURVES_FILE, folder / METRICS_FILE, *figures


def _table(kind: type, records: Sequence[Any]) -> bytes:
    text = io.StringIO()
    names = [field.name for field in fields(kind)]
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(record) for record in records)
    return text.getvalue().encode()
