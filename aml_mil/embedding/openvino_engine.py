"""The OpenVINO engine: what the torch engine does, on x86-64 CPUs, several times as fast.

V views, B images, S pixels a side, D… the shape of one image's features.
"""

import importlib
import importlib.util
import platform
import sys
import warnings
from collections import deque
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from aml_mil.embedding.config import EnginePrecision
from aml_mil.embedding.errors import EngineError
from aml_mil.embedding.quantise import hash_graph, quantise
from aml_mil.embedding.telemetry import without_telemetry
from aml_mil.embedding.views import view_pixels
from aml_mil.encoders import Encoder
from aml_mil.runtime import count_own_cores, has_native_bf16

# What is not quantised of an int8 graph is little, and stays in float32.
INFERENCE_TYPES: dict[EnginePrecision, str] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
# The same whatever the batch and the number of cores, so that they cannot change the bytes.
IMAGES_PER_REQUEST = 8
# Of a batch under way at once: a batch of 64 in four views. Each holds its images and features.
MAX_REQUESTS = 32
# A wrong graph gives other features altogether; rounding to bfloat16 stays far above.
MIN_TRIAL_COSINE = 0.99


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed, on a processor it is made for; imports nothing."""
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_x86 and importlib.util.find_spec("openvino") is not None


def import_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry, which would open a connection at once.

    Returns:
        The package.

    Raises:
        EngineError: It is not installed.
    """
    if "openvino" not in sys.modules:
        try:
            with without_telemetry():
                importlib.import_module("openvino")
        except ImportError as error:
            message = f"cannot import openvino: {error}; pip install openvino, or --engine torch"
            raise EngineError(message) from error
    return sys.modules["openvino"]


class OpenVinoEngine:
    """An encoder converted in memory and compiled for this CPU.

    Every core runs requests of its own, of one fixed shape: an image's features depend on neither
    the other images, nor the size of the batch, nor the number of cores.

    Args:
        encoder: Left as it is.
        precision: Of the convolutions and products: fp32, bf16 or int8.
        views: Names of the views, in the order of the result.
        calibration: [N, S, S, 3], cells to take the ranges of int8 from; for int8 only.

    Attributes:
        num_at_once: 2: no core waits while a batch is ended and the next begun.
        graph_sha256: Hash of the int8 graph; "" for another precision.

    Raises:
        EngineError: OpenVINO is missing, cannot run this encoder, or does it wrongly.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        precision: EnginePrecision,
        views: tuple[str, ...],
        calibration: NDArray[np.uint8] | None = None,
    ) -> None:
        check_precision_offered(precision)
        if (calibration is None) == (precision == "int8"):
            message = (
                f"expected cells to calibrate with for int8 and for nothing else, got {precision}"
            )
            raise EngineError(message)
        advice = "leave out --precision int8" if precision == "int8" else "use --engine torch"
        self.num_at_once = 2
        self.graph_sha256 = ""
        self._views = views
        self._feature_shape = encoder.feature_shape
        openvino = import_openvino()
        size_px = encoder.image_size_px
        generator = np.random.default_rng(0)
        shape = (IMAGES_PER_REQUEST, size_px, size_px, 3)
        example: NDArray[np.uint8] = generator.integers(0, 256, shape, dtype=np.uint8)
        if calibration is not None:  # int8 knows cells only
            example = np.resize(calibration, shape)
        module = _FromPixels(encoder).eval()
        try:
            model = _convert(openvino, module, torch.from_numpy(example))
            if calibration is not None:
                model = quantise(model, calibration, images_per_request=IMAGES_PER_REQUEST)
                self.graph_sha256 = hash_graph(model)
            self._compiled = _compile(openvino, model, precision)
            # Not a queue with callbacks: the core that has computed would wait for the interpreter.
            self._idle: list[Any] = []
            found = self.encode(example)[views.index("identity")]
        except _failures(openvino) as error:
            reason = _last_line(error)
            message = f"OpenVINO cannot run {encoder.name}: {reason}; {advice}"
            raise EngineError(message) from error
        with torch.inference_mode():
            expected = module(torch.from_numpy(example)).numpy()
        _compare(found, expected, name=encoder.name, advice=advice)

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Encode a batch; several threads may do so at once, and no core waits between batches.

        Args:
            images: [B, S, S, 3] RGB.

        Returns:
            Features, [V, B, D…].
        """
        shape = (len(self._views), len(images), *self._feature_shape)
        features: NDArray[np.float32] = np.empty(shape, dtype=np.float32)
        started: deque[tuple[Any, NDArray[np.float32]]] = deque()
        for view, name in enumerate(self._views):
            for start in range(0, len(images), IMAGES_PER_REQUEST):
                if len(started) == MAX_REQUESTS:
                    self._finish(*started.popleft())
                stop = start + IMAGES_PER_REQUEST
                request = self._start(images[start:stop], name)
                started.append((request, features[view, start:stop]))
        for request, place in started:
            self._finish(request, place)
        return features

    def _start(self, images: NDArray[np.uint8], view: str) -> Any:
        """Start a request of one shape; what is missing of it stays black."""
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        pixels = request.input_tensors[0].data
        view_pixels(images, view, out=pixels[: len(images)])
        pixels[len(images) :] = 0
        request.start_async()
        return request

    def _finish(self, request: Any, place: NDArray[np.float32]) -> None:
        request.wait()
        place[...] = request.output_tensors[0].data[: len(place)]
        self._idle.append(request)


def check_precision_offered(precision: EnginePrecision) -> None:
    """Raise EngineError for an arithmetic that OpenVINO would replace by another in silence."""
    if precision not in INFERENCE_TYPES:
        offered = " and ".join(INFERENCE_TYPES)
        message = f"--engine openvino offers {offered}, got precision {precision}"
        raise EngineError(message)
    if precision == "bf16" and not has_native_bf16():
        message = (
            "--engine openvino computes in bf16 only where the CPU does; "
            "use --precision fp32, or --engine torch"
        )
        raise EngineError(message)


class _FromPixels(nn.Module):
    """The encoder with the normalisation in front: [B, S, S, 3] uint8 → [B, D…]."""

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.module
        self.register_buffer("mean", torch.tensor(encoder.mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("std", torch.tensor(encoder.std).view(1, 3, 1, 1) * 255)

    def forward(self, pixels: Tensor) -> Tensor:
        images = (pixels.permute(0, 3, 1, 2).float() - self.mean) / self.std
        features: Tensor = self.encoder(images)
        return features


def _convert(openvino: ModuleType, module: nn.Module, example: Tensor) -> Any:
    # Tracing here and not in convert_model takes a third of the time.
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer is deprecated, and tells of every branch
        traced = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
        return openvino.convert_model(
            traced, example_input=example, input=[(list(example.shape), openvino.Type.u8)]
        )


def _compile(openvino: ModuleType, model: Any, precision: EnginePrecision) -> Any:
    """Compile for one single-threaded stream a core; pinned threads would starve beside others."""
    cores = count_own_cores()
    settings = {
        "INFERENCE_PRECISION_HINT": INFERENCE_TYPES[precision],
        "NUM_STREAMS": str(cores),
        "INFERENCE_NUM_THREADS": str(cores),
        "ENABLE_CPU_PINNING": False,
        "ENABLE_HYPER_THREADING": True,
    }
    return openvino.Core().compile_model(model, "CPU", settings)


def _compare(
    found: NDArray[np.float32], expected: NDArray[np.float32], *, name: str, advice: str
) -> None:
    first, second = found.reshape(len(found), -1), expected.reshape(len(expected), -1)
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines = (first * second).sum(1) / np.maximum(norms, np.finfo(np.float32).tiny)
    if not np.all(cosines >= MIN_TRIAL_COSINE):
        message = (
            f"OpenVINO encodes {name} wrongly: on a trial batch the cosine to torch in fp32 is "
            f"{cosines.min():.4f}, expected at least {MIN_TRIAL_COSINE}; {advice}"
        )
        raise EngineError(message)


def _failures(openvino: ModuleType) -> tuple[type[Exception], ...]:
    """What tracing, converting, compiling and running raise; OpenVINO's own have no base."""
    names = ("General", "Initialization", "NotImplemented", "OpConversion", "OpValidation")
    own = [getattr(openvino.frontend, f"{name}Failure") for name in names]
    return (RuntimeError, TypeError, ValueError, *own)


def _last_line(error: Exception) -> str:
    """The line with the reason: OpenVINO leads up to it."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return lines[-1] if lines else type(error).__name__
