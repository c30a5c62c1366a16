"""The arithmetic of a store: chosen once, when it is begun, and followed ever after."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from aml_mil.embedding.config import EmbedConfig, EnginePrecision
from aml_mil.embedding.engines import EngineName, choose_engine
from aml_mil.embedding.errors import NumericsMismatchError
from aml_mil.embedding.openvino_engine import has_openvino
from aml_mil.embedding.views import shared_kind, view_names
from aml_mil.encoders import Encoder
from aml_mil.runtime import library_versions, resolve_device, resolve_precision
from stores import JSON

DEFAULT_BATCH_SIZES = {"cpu": 64, "cuda": 256}
DECODERS = ("pillow", "simplejpeg")
FOLDED = "batch_norms_folded"
AUGMENTERS = ("albumentations", "opencv-python-headless")


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """Everything beside encoder, weights and preprocessing that the bytes of features depend on.

    Attributes:
        engine: What encodes.
        precision: Of the encoder.
        device: Where it runs; a store records the type only.
        batch_size: Images in each batch.
        threads: Of torch on a CPU, where sums depend on how they are split; None elsewhere.
        versions: Of the libraries that compute and decode.
        is_compiled: Whether torch compiles the encoder.
        is_folded: Whether torch folds batch normalisations into convolutions; stores begun by
            releases that did not go on without.
        calibration: Of int8: the cells, and the graph they gave; None before they are drawn, and
            for another precision.
    """

    engine: EngineName
    precision: EnginePrecision
    device: torch.device
    batch_size: int
    threads: int | None
    versions: Mapping[str, str]
    is_compiled: bool = False
    is_folded: bool = False
    calibration: Mapping[str, JSON] | None = None

    @property
    def record(self) -> dict[str, JSON]:
        """As a store records it."""
        return {
            "compute_dtype": self.precision,
            "engine": self.engine,
            "compiled": self.is_compiled,
            "device_type": self.device.type,
            "batch_size": self.batch_size,
            "threads": self.threads,
            "versions": dict(self.versions),
            **({FOLDED: True} if self.is_folded else {}),
            **({} if self.calibration is None else {"calibration": self.calibration}),
        }


def choose_numerics(config: EmbedConfig, encoder: Encoder, *, num_encodings: int = 0) -> Numerics:
    """Choose the arithmetic of a new store.

    Args:
        config: What the user asked for.
        encoder: Whose library's version counts.
        num_encodings: Cells times views; an engine that takes long to start must repay it.

    Returns:
        The choice.

    Raises:
        DeviceError: The device or precision is not there.
        EngineError: The engine asked for cannot be used here.
    """
    device = resolve_device(config.device)
    precision: EnginePrecision = (
        "int8" if config.precision == "int8" else resolve_precision(config.precision, device)
    )
    engine = choose_engine(
        config.engine,
        device=device,
        precision=precision,
        num_encodings=num_encodings,
        is_compiled=config.compile,
    )
    return Numerics(
        engine=engine,
        precision=precision,
        device=device,
        batch_size=config.batch_size or DEFAULT_BATCH_SIZES[device.type],
        threads=_threads(engine, device),
        is_compiled=config.compile,
        is_folded=engine == "torch",
        versions=_versions(engine, encoder, config, precision),
    )


def follow_numerics(
    chosen: Numerics, recorded: Mapping[str, Any], *, config: EmbedConfig, encoder: Encoder
) -> Numerics:
    """Take over what a store was begun with wherever the user left it open.

    Args:
        chosen: What a new store would get.
        recorded: What the store records.
        config: Says what the user left open.
        encoder: Whose library's version counts.

    Returns:
        The arithmetic to use.

    Raises:
        NumericsMismatchError: The user asked for something else, or the device type, the engine or
            a library's version is another; shows both values.
    """
    if config.precision == "auto" and recorded.get("compute_dtype") == "int8":
        chosen = choose_numerics(replace(config, precision="int8"), encoder)
    if config.engine == "auto":
        chosen = _with_engine(chosen, recorded.get("engine"), encoder, config)
    calibration = recorded.get("calibration")
    chosen = replace(
        chosen,
        calibration=calibration,
        is_compiled=config.compile or bool(recorded.get("compiled")),
        is_folded=bool(recorded.get(FOLDED)),
    )
    wanted = chosen.record | {"threads": recorded.get("threads")}
    if config.precision == "auto":
        wanted["compute_dtype"] = recorded.get("compute_dtype")
    if config.batch_size is None:
        wanted["batch_size"] = recorded.get("batch_size")
    differences = [
        f"{name}: store {_show(recorded.get(name))}, now {_show(value)}"
        for name, value in wanted.items()
        if recorded.get(name) != value
    ]
    if differences:
        message = (
            f"the store was begun with other numerics: {'; '.join(differences)}; its features "
            "would not be comparable to the byte: use the same settings and versions, or embed "
            "the whole cohort into a new store"
        )
        raise NumericsMismatchError(message)
    return replace(
        chosen,
        precision=recorded["compute_dtype"],
        batch_size=recorded["batch_size"],
        threads=recorded.get("threads"),
    )


def _with_engine(
    chosen: Numerics, engine: object, encoder: Encoder, config: EmbedConfig
) -> Numerics:
    """Take another engine where it is there."""
    if engine == "torch" or (engine == "openvino" and has_openvino()):
        return replace(
            chosen, engine=engine, versions=_versions(engine, encoder, config, chosen.precision)
        )
    return chosen


def _threads(engine: EngineName, device: torch.device) -> int | None:
    return torch.get_num_threads() if engine == "torch" and device.type == "cpu" else None


def _versions(
    engine: EngineName, encoder: Encoder, config: EmbedConfig, precision: EnginePrecision
) -> dict[str, str]:
    names = ["openvino"] if engine == "openvino" else []
    names += ["nncf"] if precision == "int8" else []
    augmenters = AUGMENTERS if shared_kind(view_names(config.views)) else ()
    return library_versions("torch", encoder.library, *names, *DECODERS, *augmenters)


def _show(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {value[name]}" for name in sorted(value))
    return str(value)
