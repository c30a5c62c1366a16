"""Which engine encodes, and what every engine does."""

from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from aml_mil.embedding.config import EmbedConfig, EngineChoice, EnginePrecision
from aml_mil.embedding.errors import EngineError
from aml_mil.embedding.openvino_engine import (
    INFERENCE_TYPES,
    check_precision_offered,
    has_openvino,
)
from aml_mil.embedding.quantise import has_nncf

EngineName = Literal["torch", "openvino"]

# Converting, compiling and the trial take 2 s of one core for a ResNet-18, and each encoding then
# takes 8 ms of one core less than with torch: the two meet at some 250 encodings.
MIN_ENCODINGS = 1_000


class Engine(Protocol):
    """Encodes batches; an image's features depend on the image alone.

    Attributes:
        num_at_once: Batches of several threads that it encodes at once.
    """

    num_at_once: int

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode images, [B, S, S, 3]; gives features of all views, [V, B, D…]."""


def choose_engine(
    choice: EngineChoice,
    *,
    device: torch.device,
    precision: EnginePrecision,
    num_encodings: int,
    is_compiled: bool = False,
) -> EngineName:
    """Choose the engine of a new store.

    Args:
        choice: What the user asked for.
        device: Where to encode.
        precision: Of the encoder.
        num_encodings: Cells times views.
        is_compiled: Whether torch is to compile the encoder.

    Returns:
        For ``auto`` OpenVINO on a CPU, where it is installed, offers the precision, and its start
        is repaid; else torch.

    Raises:
        EngineError: OpenVINO was asked for and cannot be used here.
    """
    if is_compiled:
        if choice == "openvino" or precision == "int8":
            message = "--compile is for torch; OpenVINO compiles its graphs anyway: leave it out"
            raise EngineError(message)
        return "torch"
    if choice == "openvino" or precision == "int8":
        _check_openvino(device, precision)
    if precision == "int8":
        _check_int8(choice)
        return "openvino"
    if choice != "auto":
        return choice
    is_offered = device.type == "cpu" and precision in INFERENCE_TYPES and has_openvino()
    return "openvino" if is_offered and num_encodings >= MIN_ENCODINGS else "torch"


def can_fall_back(config: EmbedConfig) -> bool:
    """Whether torch may encode where OpenVINO, taken by itself, cannot run an encoder."""
    return config.engine == "auto" and not config.compile and config.precision != "int8"


def _check_int8(choice: EngineChoice) -> None:
    if choice == "torch":
        message = "--precision int8 is computed by OpenVINO only; leave out --engine torch"
        raise EngineError(message)
    if not has_nncf():
        message = "--precision int8 needs the package nncf; pip install 'aml-mil[int8]'"
        raise EngineError(message)


def _check_openvino(device: torch.device, precision: EnginePrecision) -> None:
    if device.type != "cpu":
        message = f"openvino encodes on a CPU, got device {device}; use --device cpu"
        raise EngineError(message)
    if not has_openvino():
        message = (
            "openvino is not there, or this is no x86-64 processor; pip install openvino, or use "
            "--engine torch"
        )
        raise EngineError(message)
    check_precision_offered(precision)
