"""Settings of an embedding run."""

from dataclasses import dataclass
from typing import Literal, get_args

from aml_mil.embedding.views import view_names
from aml_mil.runtime import count_own_cores

EngineChoice = Literal["auto", "torch", "openvino"]
EnginePrecision = Literal["fp32", "fp16", "bf16", "int8"]
PrecisionChoice = Literal["auto", "fp32", "fp16", "bf16", "int8"]
StoreDtype = Literal["float16", "float32"]
StainRule = Literal["none", "patient"]

MAX_WORKERS = 16
"""Sixteen decode what one process can put together, some 10,000 cells a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedConfig:
    """How to embed a cohort.

    Args:
        views: Stored augmentations of every cell: flips (four views), identity (one), shared:K (the
            untouched view and K augmentations, each the same for all cells of a patient: crop,
            flips, strong colour jitter, grey, blur), or colour:K (the same, but the stain alone
            changes: brightness, contrast and saturation by up to 30%, hue by up to 18 degrees).
        stain: Stain normalisation before encoding: patient brings each patient's mean and s.d. of
            R, G, B to one reference, which the store records and later patients are brought to.
        stain_reference: Colour to reach, mean of R, G, B and their s.d. on the scale 0 to 255;
            without it the store's, and for a new store the mean over the patients of the cohort.
        cell_types: Embed only cells that experts gave this type, named as the annotations write it;
            may be repeated. The store records the types, and later patients go by the same.
        precision: Arithmetic of the encoder; auto is fp16 on CUDA, bf16 on a CPU with native
            bfloat16, else fp32; int8 is OpenVINO's, calibrated on 256 cells of the cohort; a store
            begun earlier keeps its own.
        engine: What encodes; auto is OpenVINO on an x86-64 CPU for encoders it can run and cohorts
            large enough to repay its start, else torch; a store begun earlier keeps its own.
        compile: Compile the encoder with torch: some seconds to begin with, and a C++ compiler on
            a CPU, Triton on CUDA; a store begun earlier keeps its own.
        dtype: Type of the stored features.
        batch_size: Images encoded at a time; without it 64 on a CPU, 256 on CUDA, and what a store
            begun earlier used.
        workers: Threads that read and decode images, processes where they are more than four;
            without it one per core, up to 16.
        device: auto, cpu, cuda or cuda:N.
        strict: Stop at the first damaged file instead of setting it aside.
        refresh: Embed again the patients whose files, label or annotations have changed.
        drop_vanished: Remove the bags of patients that are no longer in the cohort.
        check_precision: Encode so many cells, drawn at random, again in fp32 with torch, and tell
            how far the stored features are from that.

    Raises:
        ValueError: A value is out of range.
    """

    views: str = "flips"
    stain: StainRule = "none"
    stain_reference: tuple[float, ...] | None = None
    cell_types: tuple[str, ...] = ()
    precision: PrecisionChoice = "auto"
    engine: EngineChoice = "auto"
    compile: bool = False
    dtype: StoreDtype = "float16"
    batch_size: int | None = None
    workers: int | None = None
    device: str = "auto"
    strict: bool = False
    refresh: bool = False
    drop_vanished: bool = False
    check_precision: int | None = None

    @property
    def num_workers(self) -> int:
        """As asked for, or as many as this process has cores; more than 16 wait for the run."""
        return self.workers or min(count_own_cores(), MAX_WORKERS)

    def __post_init__(self) -> None:
        view_names(self.views)
        _check_choice("stain", self.stain, get_args(StainRule))
        _check_reference(self.stain_reference, self.stain)
        if not all(self.cell_types):
            message = f"expected names of cell types, got {self.cell_types}"
            raise ValueError(message)
        _check_choice("precision", self.precision, get_args(PrecisionChoice))
        _check_choice("engine", self.engine, get_args(EngineChoice))
        _check_choice("dtype", self.dtype, get_args(StoreDtype))
        _check_positive("batch_size", self.batch_size)
        _check_positive("workers", self.workers)
        _check_positive("check_precision", self.check_precision)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        message = f"expected {name} to be one of {', '.join(choices)}, got {value!r}"
        raise ValueError(message)


def _check_positive(name: str, value: int | None) -> None:
    if value is not None and value < 1:
        message = f"expected {name} to be at least 1, got {value}"
        raise ValueError(message)


def _check_reference(values: tuple[float, ...] | None, stain: StainRule) -> None:
    if values is None:
        return
    if stain == "none":
        message = "--stain-reference has no effect without --stain patient; leave one of them out"
        raise ValueError(message)
    means, sds = values[:3], values[3:]
    if (
        len(values) != 6
        or not all(0 <= mean <= 255 for mean in means)
        or not all(0 < sd <= 127.5 for sd in sds)
    ):
        message = (
            "expected stain_reference to be six numbers, means of R, G, B from 0 to 255 and s.d. "
            f"above 0 up to 127.5, got {', '.join(map(str, values))}"
        )
        raise ValueError(message)
