"""Patient-level pre-training: one vector for a patient, learnt without labels."""

from aml_mil.giga.config import GigaConfig
from aml_mil.giga.errors import (
    CoordsMissingError,
    GigaError,
    GigaFileError,
    TooFewPatientsError,
)

__all__ = [
    "CoordsMissingError",
    "GigaConfig",
    "GigaError",
    "GigaFileError",
    "TooFewPatientsError",
]
