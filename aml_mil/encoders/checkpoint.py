"""Our own checkpoints: weights as safetensors, and what must be known about them as JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from aml_mil.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD
from aml_mil.encoders.errors import CheckpointError, WeightsError
from aml_mil.files import write_file
from stores import JSON

METADATA_KEY = "aml_mil"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """What a checkpoint says about its weights.

    Attributes:
        architecture: Library and model: ``timm/resnet18`` or ``torchvision/squeezenet1_0``.
        image_size_px: Side of the images it was trained on.
        mean: Of the channels R, G, B on the scale 0 to 1.
        std: Of the channels.
        trained_on: Ids of the patients it has seen, sorted; None where nobody wrote them down.
        recipe: Settings of the training.
        format_version: Of this record.
    """

    architecture: str
    image_size_px: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    trained_on: tuple[str, ...] | None = None
    recipe: Mapping[str, JSON] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], info: CheckpointInfo) -> None:
    """Write a checkpoint; the file is there completely or not at all.

    Args:
        path: Ends in .safetensors; an existing file is replaced.
        tensors: State of the backbone, with the keys of its library.
        info: What to say about it.
    """
    metadata = {METADATA_KEY: json.dumps(dataclasses.asdict(info), sort_keys=True)}
    content = safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, metadata
    )
    write_file(path, content)


def read_info(path: Path) -> CheckpointInfo | None:
    """Read what a file says about its weights.

    Args:
        path: Any weights file.

    Returns:
        The record, or None where the file carries none.

    Raises:
        WeightsError: The file cannot be read.
        CheckpointError: The record is damaged, or of a later format.
    """
    if path.suffix != ".safetensors":
        return None
    try:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except safetensors.SafetensorError as error:
        message = f"{path}: not a whole safetensors file: {error}; copy it again"
        raise WeightsError(message) from error
    except OSError as error:
        message = f"weights {path}: {error.strerror or 'cannot be read: no such file'}"
        raise WeightsError(message) from error
    if METADATA_KEY not in metadata:
        return None
    return _parse(metadata[METADATA_KEY], path)


def read_checkpoint(path: Path) -> CheckpointInfo:
    """Read what a checkpoint of ours says about itself.

    Args:
        path: A .safetensors file.

    Returns:
        The record.

    Raises:
        CheckpointError: The file carries no record.
    """
    info = read_info(path)
    if info is None:
        message = (
            f"{path} does not say which encoder it is; name it: --encoder NAME --weights {path}"
        )
        raise CheckpointError(message)
    return info


def _parse(text: str, path: Path) -> CheckpointInfo:
    try:
        values: dict[str, Any] = json.loads(text)
        version = values.get("format_version")
        if version != FORMAT_VERSION:
            message = (
                f"{path}: expected a checkpoint of format {FORMAT_VERSION}, got {version}; "
                "use the release that wrote it, or a later one"
            )
            raise CheckpointError(message)
        for name in ("mean", "std", "trained_on"):
            values[name] = None if values[name] is None else tuple(values[name])
        return CheckpointInfo(**values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{path}: its record {METADATA_KEY!r} is damaged: {error}; copy it again"
        raise CheckpointError(message) from error
