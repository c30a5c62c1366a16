"""Embedding: the cells of a cohort become features in a store, once."""

from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.errors import (
    DamagedCellError,
    EmbedError,
    EngineError,
    NumericsMismatchError,
    PatientsFailedError,
)
from aml_mil.embedding.records import (
    ChangedPatient,
    EmbedProgress,
    EmbedSummary,
    FailedPatient,
    PrecisionCheck,
    QuarantinedCell,
)
from aml_mil.embedding.run import EmbedRun, embed, embed_by_several
from aml_mil.embedding.shared_views import SHARED_VIEWS

__all__ = [
    "SHARED_VIEWS",
    "ChangedPatient",
    "DamagedCellError",
    "EmbedConfig",
    "EmbedError",
    "EmbedProgress",
    "EmbedRun",
    "EmbedSummary",
    "EngineError",
    "FailedPatient",
    "NumericsMismatchError",
    "PatientsFailedError",
    "PrecisionCheck",
    "QuarantinedCell",
    "embed",
    "embed_by_several",
]
