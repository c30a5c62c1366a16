"""The report of a run: one HTML file that a clinician reads, offline."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aml_mil.cohort import Cohort
from aml_mil.cohort.errors import name_some
from aml_mil.evaluation.attention import AnnotatedCells, AttentionByType, attention_by_type
from aml_mil.evaluation.bootstrap import bootstrap_intervals
from aml_mil.evaluation.cell_map import lay_out
from aml_mil.evaluation.comparison import Comparison, compare_runs
from aml_mil.evaluation.confusion import confusion
from aml_mil.evaluation.curves import precision_recall_curves, roc_curves
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.kinds import shipped_kinds
from aml_mil.evaluation.metrics import METRICS
from aml_mil.evaluation.run import OpenRun
from aml_mil.mil.run_dir import HISTORY_FILE
from aml_mil.report.charts import (
    MappedCells,
    attention_chart,
    cell_map_chart,
    curve_chart,
    history_chart,
    label_fraction_chart,
)
from aml_mil.report.label_fractions import CurvePoint, label_fraction_table, read_label_fractions
from aml_mil.report.page import render_page
from aml_mil.report.provenance import provenance_of
from aml_mil.report.run_patients import MAX_MAP_CELLS, PatientPage, PatientRead, PatientReader
from aml_mil.report.run_tables import (
    attention_table,
    median_and_range,
    result_tables,
    stress_table,
    type_table,
)
from aml_mil.report.tables import METRIC_TITLES
from aml_mil.report.thumbnails import Thumbnails

MAP_SIDE_PX = 64
MIN_MAP_CELLS = 10
NO_COHORT = "no cohort was given, so there are no pictures of cells: aml-mil report --cohort COHORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportProgress:
    """State after a patient."""

    patients_done: int
    patients_total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The finished page.

    Attributes:
        html: The file's text.
        notes: What is missing, and why.
    """

    html: str
    notes: tuple[str, ...]


def build_report(
    run: OpenRun, *, cohort: Cohort | None = None, seed: int = 0
) -> Iterator[ReportProgress | Report]:
    """Build the report of a run.

    Args:
        run: A finished run.
        cohort: The images of its cells; without them there are no pictures.
        seed: Of the bootstrap, the UMAP and the draw of cells for it.

    Yields:
        Progress after each patient, then the report.

    Raises:
        EvaluationError: The run's files contradict each other.
    """
    thumbnails = Thumbnails(cohort)
    reader = PatientReader(run, thumbnails, seed=seed)
    if cohort and not {p.patient_id for p in cohort.patients} & set(run.scores.patient_ids):
        raise EvaluationError(
            f"none of the run's patients is in {cohort.root}; give the cohort that was embedded"
        )
    patients: list[PatientRead] = []
    for patient in reader:
        patients.append(patient)
        yield ReportProgress(patients_done=len(patients), patients_total=len(reader.order))
    notes = [] if cohort else [NO_COHORT]
    if reader.store_missing:
        notes.append(f"cells are not shown: {reader.store_missing}")
    elif reader.num_with_galleries < len(patients):
        notes.append(
            f"galleries are shown of {reader.num_with_galleries} of {len(patients)} patients, "
            "wrong predictions first, then the least certain: the file stays small enough to open"
        )
    comparison = compare_runs([run.to_compare()], seed=seed)
    fractions = read_label_fractions(run.path)
    charts = _curve_charts(run, fractions, seed=seed)
    by_type = _attention(run, patients, notes)
    if by_type is not None:
        charts["attention"] = attention_chart(by_type)
    cells = _mapped_cells(patients, thumbnails, seed=seed)
    if cells is not None:
        charts["map"] = cell_map_chart(cells)
    if cohort and thumbnails.num_missing:
        notes.append(
            f"{thumbnails.num_missing} pictures were not found in {cohort.root}, or are damaged; "
            "is it the cohort that was embedded?"
        )
    html = render_page(
        "run.html",
        {
            "title": f"aml-mil: {run.name}",
            "name": run.name,
            "notes": notes,
            "pages": [patient.page for patient in patients],
            "by_type": by_type,
            "num_mapped": 0 if cells is None else len(cells.names),
            "is_sample": cells is not None and len(cells.names) == MAX_MAP_CELLS,
            **_summary(run, comparison, patients),
            **_tables(run, comparison, patients, by_type),
            "fractions": label_fraction_table(fractions) if fractions else None,
            "provenance": provenance_of(run),
        },
        charts=charts,
    )
    yield Report(html=html, notes=tuple(notes))


def _summary(
    run: OpenRun, comparison: Comparison, patients: Sequence[PatientRead]
) -> dict[str, Any]:
    document = run.run.document
    wrong = sum(patient.page.is_wrong for patient in patients)
    macro = comparison.assessments[run.name].macro
    return {
        "classes": run.classes,
        "tiles": [
            (METRIC_TITLES[metric], macro[metric])
            for metric in ("roc_auc", "pr_auc", "f1", "balanced_accuracy")
        ],
        "wrong": wrong,
        "is_scored": all(macro[metric].averaged is not None for metric in METRICS),
        "floor_sentences": [_with_titles(text) for text in comparison.floor_sentences],
        "num_heads": document["fit"]["num_folds"] * document["fit"]["seeds"],
        "num_folds": document["fit"]["num_folds"],
        "num_seeds": document["fit"]["seeds"],
        "num_cells": document["num_cells"],
        "leakage": document["leakage"],
        "floors_left_out": run.run.metrics.get("floors_left_out", {}),
        "undefined": comparison.assessments[run.name].undefined,
    }


def _with_titles(sentence: str) -> str:
    """Call metrics by the names that the tables have."""
    for metric in METRICS:
        sentence = sentence.replace(f"{metric} ", f"{METRIC_TITLES[metric]} ")
    return sentence


def _tables(
    run: OpenRun,
    comparison: Comparison,
    patients: Sequence[PatientRead],
    by_type: AttentionByType | None,
) -> dict[str, Any]:
    table_1, per_class = result_tables(comparison)
    pages = [patient.page for patient in patients]
    counts = confusion(run.scores, seed=None)
    types = Counter(t for patient in patients for t in patient.cell_types)
    quarantined = [(page.patient_id, file) for page in pages for file in page.quarantined]
    return {
        "table_1": table_1,
        "per_class": per_class,
        "stress": stress_table(run.path),
        "confusion": [[(int(n), float(n / max(row.sum(), 1))) for n in row] for row in counts],
        "attention_rows": None if by_type is None else attention_table(by_type),
        "class_rows": [_class_row(label, pages) for label in run.classes],
        "types": type_table(types) if any(types) else None,
        "quarantined": name_some(f"{p}/{f.file}: {f.reason}" for p, f in quarantined)
        if quarantined
        else "",
    }


def _class_row(label: str, pages: Sequence[PatientPage]) -> tuple[str, ...]:
    sizes = [page.num_cells for page in pages if page.label == label]
    wrong = sum(page.is_wrong for page in pages if page.label == label)
    return (label, str(len(sizes)), str(sum(sizes)), median_and_range(sizes), str(wrong))


def _curve_charts(run: OpenRun, fractions: Sequence[CurvePoint], *, seed: int) -> dict[str, Any]:
    intervals = bootstrap_intervals(run.scores, seed=seed)
    curves = {
        "roc": (roc_curves(run.scores, seed=seed), intervals["roc_auc"]),
        "pr": (precision_recall_curves(run.scores, seed=seed), intervals["pr_auc"]),
    }
    charts = {kind: curve_chart(*found, kind=kind) for kind, found in curves.items()}
    if (history := _history(run)) is not None:
        charts["training"] = history
    if fractions:
        charts["fractions"] = label_fraction_chart(fractions)
    return charts


def _history(run: OpenRun) -> Any:
    path = run.path / HISTORY_FILE
    if not path.exists():
        return None
    heads: dict[tuple[str, str], list[tuple[float, float, float]]] = defaultdict(list)
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = (float(row["epoch"]), float(row["train_loss"]), float(row["val_loss"]))
            heads[row["fold"], row["seed"]].append(values)
    curves = [np.array(sorted(rows)) for rows in heads.values()]
    # A diverged head has losses that are no numbers, or would flatten all others.
    return history_chart(
        {
            name: [(c[:, 0], np.where(np.isfinite(c[:, k]), c[:, k], np.nan)) for c in curves]
            for k, name in ((1, "training loss"), (2, "validation loss"))
        }
    )


def _attention(
    run: OpenRun, patients: Sequence[PatientRead], notes: list[str]
) -> AttentionByType | None:
    annotated = {
        patient.page.patient_id: AnnotatedCells(
            label=run.classes.index(patient.page.label), cell_types=patient.cell_types
        )
        for patient in patients
        if any(patient.cell_types)
    }
    if not annotated:
        notes.append("attention by cell type is left out: no cell has an expert's type")
        return None
    return attention_by_type(run.attention, annotated, shipped_kinds())


def _mapped_cells(
    patients: Sequence[PatientRead], thumbnails: Thumbnails, *, seed: int
) -> MappedCells | None:
    read = [(p.page, p.sampled) for p in patients if p.sampled is not None]
    rows = [(page, sampled, i) for page, sampled in read for i in range(len(sampled.names))]
    if len(rows) < MIN_MAP_CELLS:
        return None
    types = [sampled.cell_types[i] for _, sampled, i in rows]
    labels = [page.label for page, _, _ in rows]
    return MappedCells(
        points=lay_out(np.concatenate([s.features for _, s in read]), seed=seed),
        groups=[t or "not annotated" for t in types] if any(types) else labels,
        cell_types=[t or "no expert's type" for t in types],
        patients=[page.patient_id for page, _, _ in rows],
        labels=labels,
        names=[sampled.names[i] for _, sampled, i in rows],
        attention=[float(sampled.attention[i]) for _, sampled, i in rows],
        pictures=[
            thumbnails.picture(page.patient_id, sampled.names[i], side_px=MAP_SIDE_PX)
            for page, sampled, i in rows
        ],
    )
