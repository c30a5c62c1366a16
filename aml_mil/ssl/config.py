"""Settings that all pre-training methods share; each method's file adds its own."""

import dataclasses
import inspect
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeVar

from stores import JSON

Config = TypeVar("Config", bound=type)
Precision = Literal["auto", "fp32", "fp16", "bf16"]

# How a run is carried out, which a resumed run may change without becoming another run.
FREE_TO_CHANGE = ("workers", "device", "cache_gib")


def with_shared_settings(config_class: Config) -> Config:
    """Complete a method's docstring by the settings it inherits, so that it describes them all."""
    own = inspect.getdoc(config_class) or ""
    shared = inspect.getdoc(PretrainConfig) or ""
    about, _, attributes = shared.partition("Attributes:\n")
    entries = attributes.partition("\n\n")[0]
    known = set(re.findall(r"^    (\w+): ", own, re.MULTILINE))
    kept, is_wanted = [], True
    for line in entries.splitlines():
        if found := re.match(r"    (\w+): ", line):
            is_wanted = found[1] not in known
        if is_wanted:
            kept.append(line)
    sources = about[about.index("Sources: ") :]
    own = own.replace("Attributes:\n", f"{sources}Attributes:\n", 1)
    config_class.__doc__ = "\n".join(["", *_indent(own.splitlines() + kept)])
    return config_class


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" if line else line for line in lines]


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainConfig:
    """Settings of any method.

    Sources: P is Kazeminia, Joosten et al. (arXiv 2403.05379), H is Hehr et al. (PLOS Digital
    Health 2023), V the VISSL configurations, S those of solo-learn, D the official DINO code.

    Attributes:
        architecture: Encoder, as timm names it. Source: P (ResNet-18; supervised: ResNet-34).
        image_size_px: Side of the images the encoder is given; that of global crops. Source: P
            (cells of 144 px).
        source_size_px: Side of the images kept in memory, from which crops are cut. Source: ours.
        epochs: Length of the run. Source: P.
        batch_size: Images of a step over all processes. Source: P.
        lr: Peak learning rate; at batch sizes other than 256 in proportion.
        weight_decay: Of weights; biases and norms have none.
        warmup: Linear rise of the learning rate: below 1 a share of the run, else epochs.
        seed: Of weights, orders and views. Source: ours.
        checkpointing: Recompute activations in the backward pass: less memory, more time.
            Source: P.
        compile: Compile the encoder, for long runs. Source: ours.
        precision: Of the matrix products; auto is fp16 on CUDA, bf16 on CPUs that have it, else
            fp32. Source: P (mixed).
        device: auto is CUDA where there is one. Source: ours.
        workers: Processes that make views; -1 for as many as there are cores (CUDA) or one (CPU).
            Source: ours.
        cache_gib: Images are kept in memory up to this size, and read from the disk each time
            beyond. Source: ours.

    Raises:
        ValueError: A value is outside its range.
    """

    architecture: str = "resnet18"
    image_size_px: int = 144
    source_size_px: int = 144
    epochs: int = 500
    batch_size: int = 512
    lr: float = 0.3
    weight_decay: float = 1e-6
    warmup: float = 0.1
    seed: int = 0
    checkpointing: bool = False
    compile: bool = False
    precision: Precision = "auto"
    device: str = "auto"
    workers: int = -1
    cache_gib: float = 8.0

    def __post_init__(self) -> None:
        require_at_least(
            self, 1, "image_size_px", "source_size_px", "epochs", "batch_size", "cache_gib"
        )
        require_at_least(self, 0, "weight_decay", "warmup", "seed")
        require_at_least(self, -1, "workers")
        require_positive(self, "lr")

    def to_json(self) -> dict[str, JSON]:
        """Return the settings as JSON values, in the order they are declared."""
        return dataclasses.asdict(self)


def require_at_least(config: PretrainConfig, minimum: float, *names: str) -> None:
    """Check settings against a lower bound.

    Raises:
        ValueError: One is below.
    """
    for name in names:
        value = getattr(config, name)
        if not value >= minimum:
            raise ValueError(f"{name}: expected {minimum} or more, got {value}")


def require_positive(config: PretrainConfig, *names: str) -> None:
    """Check that settings are above 0.

    Raises:
        ValueError: One is not.
    """
    for name in names:
        value = getattr(config, name)
        if not value > 0:
            raise ValueError(f"{name}: expected a number above 0, got {value}")


def require_share(config: PretrainConfig, *names: str) -> None:
    """Check that settings lie in 0 to 1.

    Raises:
        ValueError: One does not.
    """
    for name in names:
        value = getattr(config, name)
        if not 0 <= value <= 1:
            raise ValueError(f"{name}: expected a number from 0 to 1, got {value}")


def require_scales(config: PretrainConfig, *names: str) -> None:
    """Check shares of an image's area that crops take, each at most as large as the next.

    Raises:
        ValueError: One is 0, above 1, or larger than the next.
    """
    require_positive(config, *names)
    require_share(config, *names)
    for name, other in pairwise(names):
        value, limit = getattr(config, name), getattr(config, other)
        if value > limit:
            raise ValueError(f"{name}: expected at most {other}, which is {limit}, got {value}")
