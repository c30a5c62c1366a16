"""What `embed` would do on this machine, how fast, and what would make it faster."""

import importlib.util
import shutil
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from aml_mil.cohort import Cohort
from aml_mil.embedding.building import build_engine
from aml_mil.embedding.calibration import draw_calibration
from aml_mil.embedding.config import EmbedConfig
from aml_mil.embedding.engines import MIN_ENCODINGS, can_fall_back
from aml_mil.embedding.errors import EngineError
from aml_mil.embedding.numerics import Numerics, choose_numerics
from aml_mil.embedding.openvino_engine import has_openvino
from aml_mil.embedding.rates import measure_decoding, measure_encoding
from aml_mil.embedding.view_encoder import ViewEncoder
from aml_mil.embedding.views import view_names
from aml_mil.encoders import Encoder
from aml_mil.runtime import count_own_cores, describe_device

PACKAGES = {
    "openvino": "encodes several times as fast on x86-64 CPUs",
    "nncf": "--precision int8",
    "s3fs": "stores on S3",
    "anndata": "import and export of AnnData",
}
NUMBERS_PER_CELL_BYTES = 24 + 24  # colour, and an id of some twenty letters
BAG_BYTES = 9_000  # the commit record, and the metadata of the arrays
FILES_PER_BAG = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What would be taken, and why."""

    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Something optional.

    Attributes:
        name: Of a package, or of a piece of the machine.
        is_there: Whether it was found.
        purpose: What it is good for.
    """

    name: str
    is_there: bool
    purpose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortNeeds:
    """What a cohort would take.

    Attributes:
        num_patients: Patients.
        num_cells: Image files.
        store_bytes: Of its store on the disk; within some percent.
        num_files: In that store, as .zarr.
        free_bytes: Where the store is to be.
        seconds: At the rates measured.
    """

    num_patients: int
    num_cells: int
    store_bytes: int
    num_files: int
    free_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found.

    Attributes:
        hardware: Name of the device.
        cores: For this process.
        device: Where the encoder would run.
        engine: What would encode.
        precision: In which arithmetic.
        encoder: That was measured.
        num_views: Encodings of a cell.
        decoded_per_s: Cells read and decoded in a second, by all workers.
        encoded_per_s: Cells encoded in a second, in all views.
        parts: What is optional.
        cohort: What the cohort would take; None where none was given.
    """

    hardware: str
    cores: int
    device: Choice
    engine: Choice
    precision: Choice
    encoder: str
    num_views: int
    decoded_per_s: float
    encoded_per_s: float
    parts: tuple[Part, ...]
    cohort: CohortNeeds | None


def diagnose(
    encoder: Encoder,
    config: EmbedConfig,
    *,
    cohort: Cohort | None = None,
    out: Path = Path(),
    seconds: float = 2.0,
) -> Diagnosis:
    """Choose as `embed` would, and measure.

    Args:
        encoder: To measure.
        config: As for `embed`.
        cohort: Whose cells are decoded; without it drawn ones are.
        out: A folder on the disk that the store is to be on.
        seconds: For each of the two rates.

    Returns:
        The diagnosis.

    Raises:
        DeviceError: The device or precision is not there.
        EngineError: The engine asked for cannot run the encoder.
    """
    num_views = len(view_names(config.views))
    num_encodings = MIN_ENCODINGS if cohort is None else cohort.num_cells * num_views
    numerics = choose_numerics(config, encoder, num_encodings=num_encodings)
    calibration = None
    if numerics.precision == "int8":
        if cohort is None:
            message = "--precision int8 calibrates on cells; give a cohort"
            raise EngineError(message)
        calibration = draw_calibration(cohort, image_size_px=encoder.image_size_px).images
    numerics, built, note = _build(numerics, encoder, config, calibration)
    decoded_per_s = measure_decoding(
        cohort,
        image_size_px=encoder.image_size_px,
        workers=config.num_workers,
        seconds=seconds,
    )
    encoded_per_s = measure_encoding(
        built, image_size_px=encoder.image_size_px, batch=numerics.batch_size, seconds=seconds
    )
    needs = None
    if cohort is not None:
        rate = min(decoded_per_s, encoded_per_s)
        needs = measure_needs(cohort, encoder, config, out=out, cells_per_s=rate)
    return Diagnosis(
        hardware=describe_device(numerics.device),
        cores=count_own_cores(),
        device=Choice(value=str(numerics.device), reason=_why_device(config)),
        engine=Choice(
            value=numerics.engine, reason=note or _why_engine(numerics, config, num_encodings)
        ),
        precision=Choice(value=numerics.precision, reason=_why_precision(numerics, config)),
        encoder=encoder.name,
        num_views=num_views,
        decoded_per_s=decoded_per_s,
        encoded_per_s=encoded_per_s,
        parts=find_parts(),
        cohort=needs,
    )


def measure_needs(
    cohort: Cohort, encoder: Encoder, config: EmbedConfig, *, out: Path, cells_per_s: float
) -> CohortNeeds:
    """Say what the store of a cohort would take."""
    num_cells, num_patients = cohort.num_cells, len(cohort.patients)
    per_cell = len(view_names(config.views)) * prod(encoder.feature_shape)
    per_cell = per_cell * np.dtype(config.dtype).itemsize + NUMBERS_PER_CELL_BYTES
    return CohortNeeds(
        num_patients=num_patients,
        num_cells=num_cells,
        store_bytes=num_cells * per_cell + num_patients * BAG_BYTES,
        num_files=num_patients * FILES_PER_BAG,
        free_bytes=shutil.disk_usage(out).free,
        seconds=num_cells / cells_per_s,
    )


def find_parts() -> tuple[Part, ...]:
    """Look for what is optional; imports nothing."""
    packages = [
        Part(name=name, is_there=importlib.util.find_spec(name) is not None, purpose=purpose)
        for name, purpose in PACKAGES.items()
    ]
    compilers = [name for name in ("c++", "g++", "clang++") if shutil.which(name)]
    return (
        *packages,
        Part(name="GPU", is_there=torch.cuda.is_available(), purpose=_about_gpu()),
        Part(name="C++ compiler", is_there=bool(compilers), purpose="`embed --compile` on a CPU"),
    )


def _about_gpu() -> str:
    if not torch.cuda.is_available() and shutil.which("nvidia-smi"):
        return "encodes fastest; nvidia-smi is there, but this torch finds no device: see its build"
    return "encodes fastest"


def _build(
    numerics: Numerics,
    encoder: Encoder,
    config: EmbedConfig,
    calibration: NDArray[np.uint8] | None,
) -> tuple[Numerics, ViewEncoder, str]:
    """Build the engine; auto takes torch where another fails, and says why."""
    views, size_px = view_names(config.views), encoder.image_size_px

    def build(chosen: Numerics) -> ViewEncoder:
        return ViewEncoder(
            lambda own: build_engine(chosen, encoder, views=own, calibration=calibration),
            views=views,
            image_size_px=size_px,
        )

    try:
        return numerics, build(numerics), ""
    except EngineError as error:
        if not can_fall_back(config):
            raise
        numerics = choose_numerics(replace(config, engine="torch"), encoder)
        return numerics, build(numerics), str(error)


def _why_device(config: EmbedConfig) -> str:
    if config.device != "auto":
        return "asked for"
    num = torch.cuda.device_count()
    devices = "1 CUDA device" if num == 1 else f"{num} CUDA devices"
    return f"torch finds {devices}" if num else "torch finds no CUDA device"


def _why_precision(numerics: Numerics, config: EmbedConfig) -> str:
    if config.precision != "auto":
        return "asked for"
    return {
        "fp16": "the fastest on CUDA",
        "bf16": "this CPU multiplies bfloat16 in hardware",
        "fp32": "this CPU has no bfloat16 in hardware",
    }[numerics.precision]


def _why_engine(numerics: Numerics, config: EmbedConfig, num_encodings: int) -> str:
    if config.compile:
        return "asked for, compiled"
    if config.engine != "auto":
        return "asked for"
    if numerics.engine == "openvino":
        return f"the fastest on x86-64 CPUs, its start repaid from {MIN_ENCODINGS} encodings on"
    if numerics.device.type == "cuda":
        return "the one for CUDA"
    if not has_openvino():
        return "openvino is not installed, or this is no x86-64 CPU"
    return f"{num_encodings} encodings do not repay the start of openvino ({MIN_ENCODINGS} would)"
