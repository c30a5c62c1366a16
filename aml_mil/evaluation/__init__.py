"""Evaluate runs from their predictions: metrics, intervals, floors, tables, comparison."""

from aml_mil.evaluation.assessment import Assessment, Figure, assess
from aml_mil.evaluation.bootstrap import Interval, bootstrap_intervals
from aml_mil.evaluation.comparison import Comparison, RunToCompare, compare_runs
from aml_mil.evaluation.differences import paired_intervals
from aml_mil.evaluation.errors import EvaluationError
from aml_mil.evaluation.floors import FloorCohort, mean_per_patient, predict_floors
from aml_mil.evaluation.metrics import METRICS
from aml_mil.evaluation.patients import PatientScores, patient_scores
from aml_mil.evaluation.predictions import (
    Predictions,
    concatenate,
    prediction_rows,
    read_predictions,
)
from aml_mil.evaluation.table import TableRow, format_figure, metrics_table

__all__ = [
    "METRICS",
    "Assessment",
    "Comparison",
    "EvaluationError",
    "Figure",
    "FloorCohort",
    "Interval",
    "PatientScores",
    "Predictions",
    "RunToCompare",
    "TableRow",
    "assess",
    "bootstrap_intervals",
    "compare_runs",
    "concatenate",
    "format_figure",
    "mean_per_patient",
    "metrics_table",
    "paired_intervals",
    "patient_scores",
    "predict_floors",
    "prediction_rows",
    "read_predictions",
]
