"""Embedding: the cells of a cohort become features in a store, once."""

from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.errors import (
    DamagedCellError,
    EmbedError,
    NumericsMismatchError,
    PatientsFailedError,
)
from aml_mil.embedding.records import (
    ChangedPatient,
    EmbedProgress,
    EmbedSummary,
    FailedPatient,
    QuarantinedCell,
)
from aml_mil.embedding.run import EmbedRun, embed

__all__ = [
    "ChangedPatient",
    "DamagedCellError",
    "EmbedConfig",
    "EmbedError",
    "EmbedProgress",
    "EmbedRun",
    "EmbedSummary",
    "FailedPatient",
    "NumericsMismatchError",
    "PatientsFailedError",
    "QuarantinedCell",
    "embed",
]
