"""An OpenVINO graph in int8: post-training quantisation by nncf."""

import hashlib
import importlib
import importlib.util
import io
import logging
import warnings
from contextlib import redirect_stdout
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aml_mil.embedding.errors import EngineError
from aml_mil.embedding.telemetry import without_telemetry


def has_nncf() -> bool:
    """Tell whether nncf is installed; imports nothing."""
    return importlib.util.find_spec("nncf") is not None


def import_nncf() -> ModuleType:
    """Import nncf without its telemetry.

    Raises:
        EngineError: It is not installed.
    """
    try:
        with without_telemetry(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nncf = importlib.import_module("nncf")
    except ImportError as error:
        message = f"--precision int8 needs nncf ({error}); pip install 'aml-mil[int8]'"
        raise EngineError(message) from error
    nncf.set_log_level(logging.ERROR)
    return nncf


def quantise(model: Any, images: NDArray[np.uint8], *, images_per_request: int) -> Any:
    """Quantise weights and activations to 8 bits.

    Args:
        model: An OpenVINO model of [images_per_request, S, S, 3] uint8.
        images: [N, S, S, 3], to take the ranges of the activations from.
        images_per_request: Whole requests are taken; the last is filled up by the first images.

    Returns:
        The model in int8; the same for the same arguments.

    Raises:
        EngineError: nncf is not installed.
    """
    nncf = import_nncf()
    missing = -len(images) % images_per_request
    filled = np.concatenate([images, np.resize(images, (missing, *images.shape[1:]))])
    requests = filled.reshape(-1, images_per_request, *images.shape[1:])
    ranges = importlib.import_module("nncf.quantization.range_estimator")
    advanced = importlib.import_module("nncf.quantization.advanced_parameters")
    # Its bars would go to stdout, which is for results.
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nncf.quantize(
            model,
            nncf.Dataset(list(requests)),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(requests),
            fast_bias_correction=False,  # the slow one halves the distance to fp32
            # The widest range: the mean one cuts off what is rare, and rare cells count.
            advanced_parameters=advanced.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges.RangeEstimatorParametersSet.MINMAX
            ),
        )


def hash_graph(model: Any) -> str:
    """Hash the operations of a model and all its constants; names do not count."""
    digest = hashlib.sha256()
    for operation in model.get_ordered_ops():
        kind = operation.get_type_name()
        digest.update(kind.encode())
        if kind == "Constant":
            digest.update(np.ascontiguousarray(operation.data).tobytes())
    return digest.hexdigest()
