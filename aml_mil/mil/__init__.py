"""Attention heads on stored features: configuration, training, run folders."""

from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine import EpochRecord
from aml_mil.mil.errors import (
    BagsError,
    DivergedError,
    FitError,
    LeakageError,
    RunError,
    RunExistsError,
    StoresDifferError,
)
from aml_mil.mil.fit import FitSummary, fit, fit_encoders
from aml_mil.mil.head import Head, HeadOutput, HeadShape
from aml_mil.mil.run_dir import Run, open_run

__all__ = [
    "BagsError",
    "DivergedError",
    "EpochRecord",
    "FitConfig",
    "FitError",
    "FitSummary",
    "Head",
    "HeadOutput",
    "HeadShape",
    "LeakageError",
    "Run",
    "RunError",
    "RunExistsError",
    "StoresDifferError",
    "fit",
    "fit_encoders",
    "open_run",
]
