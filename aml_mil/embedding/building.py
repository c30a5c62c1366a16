"""An engine made ready, as a store's arithmetic asks."""

import numpy as np
from numpy.typing import NDArray

from aml_mil.embedding.engine import TorchEngine
from aml_mil.embedding.engines import Engine
from aml_mil.embedding.numerics import Numerics
from aml_mil.embedding.openvino_engine import OpenVinoEngine
from aml_mil.encoders import Encoder


def build_engine(
    numerics: Numerics,
    encoder: Encoder,
    *,
    views: tuple[str, ...],
    calibration: NDArray[np.uint8] | None = None,
) -> Engine:
    """Make an encoder ready.

    Args:
        numerics: Engine, device, precision, and what else the bytes depend on.
        encoder: Left as it is.
        views: Names of the views, in the order of the result.
        calibration: [N, S, S, 3], cells to take the ranges of int8 from.

    Returns:
        The engine.

    Raises:
        EngineError: OpenVINO is missing or cannot run this encoder; torch cannot compile it.
    """
    if numerics.engine == "openvino":
        return OpenVinoEngine(
            encoder, precision=numerics.precision, views=views, calibration=calibration
        )
    return TorchEngine(
        encoder,
        device=numerics.device,
        precision=numerics.precision,
        views=views,
        threads=numerics.threads,
        is_folded=numerics.is_folded,
        compile_for=numerics.batch_size if numerics.is_compiled else None,
    )
