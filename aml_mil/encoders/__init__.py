"""Encoders: networks that turn one cell image into features, and their weights."""

from aml_mil.encoders.checkpoint import (
    CheckpointInfo,
    read_checkpoint,
    save_checkpoint,
)
from aml_mil.encoders.encoder import Encoder, EncoderModule
from aml_mil.encoders.errors import (
    CheckpointError,
    EncoderError,
    UnknownEncoderError,
    WeightsError,
)
from aml_mil.encoders.load import CHECKPOINT_SUFFIXES, load_encoder
from aml_mil.encoders.taps import FeatureKind

__all__ = [
    "CHECKPOINT_SUFFIXES",
    "CheckpointError",
    "CheckpointInfo",
    "Encoder",
    "EncoderError",
    "EncoderModule",
    "FeatureKind",
    "UnknownEncoderError",
    "WeightsError",
    "load_encoder",
    "read_checkpoint",
    "save_checkpoint",
]
