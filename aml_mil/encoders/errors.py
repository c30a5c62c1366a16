"""Errors of encoders and their weights."""

from collections.abc import Sequence

from aml_mil.errors import AmlMilError

MAX_NAMED = 5


class EncoderError(AmlMilError):
    """An encoder cannot be had as asked."""


class UnknownEncoderError(EncoderError):
    """No library has an encoder of this name, or we cannot take features from it."""


class WeightsError(EncoderError):
    """Weights are missing, unreadable, or belong to another encoder."""


class CheckpointError(WeightsError):
    """A file is not a checkpoint of ours."""


def name_keys(keys: Sequence[str]) -> str:
    """Name at most five keys and the count, such as ``a, b (2)``."""
    shown = ", ".join(keys[:MAX_NAMED])
    return f"{shown}{', …' if len(keys) > MAX_NAMED else ''} ({len(keys)})"
