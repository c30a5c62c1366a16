"""Weights that others trained, as checkpoints of ours.

Every neighbour wraps the same network under other names; what belongs to its heads is dropped by
name, and what is then unknown or missing is an error that lists it.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from aml_mil.encoders.checkpoint import CheckpointInfo, save_checkpoint
from aml_mil.encoders.encoder import DEFAULT_IMAGE_SIZE_PX, IMAGENET_MEAN, IMAGENET_STD
from aml_mil.encoders.errors import WeightsError
from aml_mil.encoders.timm_models import build_timm, classifier_names
from aml_mil.encoders.weights import (
    PARALLEL_PREFIX,
    TORCH_SUFFIXES,
    _read_safetensors,
    _read_torch,
    are_tensors,
    check_extents,
    hash_file,
    load_strictly,
)

LIGHTNING_SUFFIXES = (*TORCH_SUFFIXES, ".ckpt", ".torch", ".bin")
# Children of a torchvision ResNet, as they are numbered in nn.Sequential(*children[:-1]).
NUMBERED_CHILDREN = {
    "0": "conv1",
    "1": "bn1",
    "4": "layer1",
    "5": "layer2",
    "6": "layer3",
    "7": "layer4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFormat:
    """How one neighbour names a network.

    Attributes:
        name: Of the neighbour.
        backbones: Prefixes of the network; the first that occurs is taken.
        dropped: Pattern of names, without the network's prefix, that belong to heads and to other
            copies of the network.
    """

    name: str
    backbones: tuple[str, ...]
    dropped: str


VISSL = SourceFormat(name="vissl", backbones=("_feature_blocks.", ""), dropped=r"(?!)")
DINO = SourceFormat(name="dino", backbones=("backbone.",), dropped=r"head\.")
LIGHTLY = SourceFormat(
    name="lightly",
    backbones=("teacher_backbone.", "backbone.", "student_backbone."),
    dropped=(
        r"(student_|teacher_)?(backbone|head|projection_head|prediction_head)(_momentum)?\."
        r"|prototypes\.|criterion\.|(start_)?queues?\."
    ),
)
SOLO_LEARN = SourceFormat(
    name="solo-learn",
    backbones=("backbone.", "encoder."),
    dropped=(
        r"(momentum_)?(backbone|encoder|projector|predictor|classifier|head|prototypes)\."
        r"|(dino_loss_func|queue|queue_y|queue_ptr)\b"
    ),
)
PLAIN = SourceFormat(
    name="torchvision",
    backbones=("",),
    dropped=r"(projection_head|prototypes)\.",  # SwAV's official files are a torchvision ResNet's
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """What came out of a file.

    Attributes:
        source: Whose format it was.
        tensors: The network's, with timm's names.
        dropped: Names of what belongs to heads and other copies.
    """

    source: str
    tensors: Mapping[str, Tensor]
    dropped: tuple[str, ...]


def convert_checkpoint(
    path: Path,
    out: Path,
    *,
    architecture: str,
    image_size_px: int = DEFAULT_IMAGE_SIZE_PX,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> Conversion:
    """Turn a neighbour's file into a checkpoint of ours.

    Args:
        path: Of VISSL, torchvision or timm, the official DINO or SwAV, lightly, or solo-learn.
        out: Ends in .safetensors.
        architecture: The ResNet it holds, as timm names it.
        image_size_px: Side of the images it was trained on.
        mean: Of the channels it was trained with.
        std: Of the channels.

    Returns:
        What was taken and what was dropped.

    Raises:
        WeightsError: Names are unknown, missing or of other shapes; lists them.
        UnknownEncoderError: timm has no such architecture.
    """
    conversion = extract_backbone(_read(path), what=str(path))
    backbone = build_timm(architecture, image_size_px=image_size_px)
    load_strictly(
        backbone,
        conversion.tensors,
        classifiers=classifier_names(backbone),
        what=f"weights {path} ({conversion.source}) for timm/{architecture}",
    )
    recipe: dict[str, Any] = {
        "converted_from": conversion.source,
        "file": path.name,
        "file_sha256": hash_file(path),
        "dropped": list(conversion.dropped),
    }
    info = CheckpointInfo(
        architecture=f"timm/{architecture}",
        image_size_px=image_size_px,
        mean=mean,
        std=std,
        trained_on=None,
        recipe=recipe,
    )
    save_checkpoint(out, backbone.state_dict(), info)
    return conversion


def extract_backbone(content: object, *, what: str) -> Conversion:
    """Find the network in what a neighbour saved.

    Args:
        content: A state dict, plain or wrapped.
        what: Names the file, for the message.

    Returns:
        The network's tensors; they are not yet compared with an architecture.

    Raises:
        WeightsError: It has none of the known forms, or a tensor that its file does not hold.
    """
    tensors, known = _unwrap(content, what)
    source = known or _recognise(tensors)
    prefix = next(
        (p for p in source.backbones if f"{p}conv1.weight" in tensors or f"{p}0.weight" in tensors),
        None,
    )
    if prefix is None:
        shown = ", ".join(list(tensors)[:5])
        message = f"{what}: expected a ResNet of {source.name}, found no conv1 among: {shown}"
        raise WeightsError(message)
    taken: dict[str, Tensor] = {}
    dropped: list[str] = []
    for name, tensor in tensors.items():
        if name.startswith(prefix) and not (prefix == "" and re.match(source.dropped, name)):
            taken[_renumber(name.removeprefix(prefix))] = _widen(tensor)
        elif re.match(source.dropped, name):
            dropped.append(name)
        else:
            # Kept under its own name, so that the comparison with the architecture lists it.
            taken[name] = tensor
    return Conversion(source=source.name, tensors=taken, dropped=tuple(dropped))


def _unwrap(content: object, what: str) -> tuple[dict[str, Tensor], SourceFormat | None]:
    source: SourceFormat | None = None
    for steps, form in (
        (("classy_state_dict", "base_model", "model", "trunk"), VISSL),
        (("teacher",), DINO),
        (("model_state_dict",), None),
        (("state_dict",), None),
        (("model",), None),
    ):
        inner = _follow(content, steps)
        if inner is not None:
            content, source = inner, form
            break
    if not content or not are_tensors(content):
        message = (
            f"{what}: expected tensors by name, plain or wrapped as VISSL, DINO, lightly or "
            "solo-learn do"
        )
        raise WeightsError(message)
    check_extents(content, what=what)
    return {name.removeprefix(PARALLEL_PREFIX): t for name, t in content.items()}, source


def _follow(content: object, steps: tuple[str, ...]) -> object | None:
    for step in steps:
        if not isinstance(content, dict) or not isinstance(content.get(step), dict):
            return None
        content = content[step]
    return content


def _recognise(tensors: Mapping[str, Tensor]) -> SourceFormat:
    checks: tuple[tuple[SourceFormat, Callable[[str], bool]], ...] = (
        (PLAIN, lambda name: name == "conv1.weight"),
        (VISSL, lambda name: name == "_feature_blocks.conv1.weight"),
        (LIGHTLY, lambda name: name in {f"{p}0.weight" for p in LIGHTLY.backbones}),
        (LIGHTLY, lambda name: name == "student_backbone.conv1.weight"),
        # Before DINO: solo-learn's own DINO has such a head, too.
        (SOLO_LEARN, lambda name: name.startswith("momentum_backbone.")),
        (DINO, lambda name: name.startswith("head.last_layer")),
        (SOLO_LEARN, lambda name: name in {f"{p}conv1.weight" for p in SOLO_LEARN.backbones}),
    )
    return next((form for form, fits in checks if any(map(fits, tensors))), PLAIN)


def _renumber(name: str) -> str:
    """Give numbered children their names: ``4.0.conv1.weight`` is ``layer1.0.conv1.weight``."""
    first, dot, rest = name.partition(".")
    return f"{NUMBERED_CHILDREN[first]}{dot}{rest}" if first in NUMBERED_CHILDREN else name


def _widen(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


def _read(path: Path) -> object:
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.name.endswith(LIGHTNING_SUFFIXES):
        return _read_torch(path)
    expected = ", ".join((".safetensors", *LIGHTNING_SUFFIXES))
    message = f"{path}: expected weights in a file that ends in one of {expected}"
    raise WeightsError(message)
