"""Self-supervised and supervised pre-training of encoders on the cells of a cohort."""

from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.dino import DinoConfig
from aml_mil.ssl.errors import (
    DivergedError,
    LabelsMissingError,
    PretrainError,
    ResumeError,
    TooFewImagesError,
)
from aml_mil.ssl.pretrain import PretrainRun
from aml_mil.ssl.simclr import SimclrConfig
from aml_mil.ssl.supervised import SupervisedConfig
from aml_mil.ssl.swav import SwavConfig
from aml_mil.ssl.training_run import TrainingProgress

__all__ = [
    "DinoConfig",
    "DivergedError",
    "LabelsMissingError",
    "PretrainConfig",
    "PretrainError",
    "PretrainRun",
    "ResumeError",
    "SimclrConfig",
    "SupervisedConfig",
    "SwavConfig",
    "TooFewImagesError",
    "TrainingProgress",
]
