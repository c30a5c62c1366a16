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
from aml_mil.ssl.pretrain import PretrainProgress, PretrainRun
from aml_mil.ssl.simclr import SimclrConfig
from aml_mil.ssl.supervised import SupervisedConfig
from aml_mil.ssl.swav import SwavConfig

__all__ = [
    "DinoConfig",
    "DivergedError",
    "LabelsMissingError",
    "PretrainConfig",
    "PretrainError",
    "PretrainProgress",
    "PretrainRun",
    "ResumeError",
    "SimclrConfig",
    "SupervisedConfig",
    "SwavConfig",
    "TooFewImagesError",
]
