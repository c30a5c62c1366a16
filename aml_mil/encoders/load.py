"""From a name and weights to an encoder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aml_mil.encoders import timm_models, torchvision_models
from aml_mil.encoders.checkpoint import CheckpointInfo, read_checkpoint, read_info
from aml_mil.encoders.encoder import (
    DEFAULT_IMAGE_SIZE_PX,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Encoder,
    EncoderModule,
    example_images,
)
from aml_mil.encoders.errors import EncoderError, WeightsError
from aml_mil.encoders.taps import FeatureKind, LayerModule, MapModule, is_square_map
from aml_mil.encoders.weights import (
    TORCH_SUFFIXES,
    hash_file,
    hash_tensors,
    load_strictly,
    read_weights,
)

RANDOM_PREFIX = "random:"
CHECKPOINT_SUFFIXES = (".safetensors", *TORCH_SUFFIXES)
CHOICES = "--weights FILE, --weights timm or --weights random:SEED"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """An encoder as asked for, names resolved and files looked into, nothing built yet."""

    name: str
    weights: str
    image_size_px: int
    info: CheckpointInfo | None

    @property
    def is_torchvision(self) -> bool:
        return self.name.startswith(torchvision_models.PREFIX)

    @property
    def architecture(self) -> str:
        if self.is_torchvision:
            return f"torchvision/{self.name.removeprefix(torchvision_models.PREFIX)}"
        return f"timm/{self.name.partition('.')[0]}"

    @property
    def file(self) -> Path | None:
        is_file = self.weights != "timm" and not self.weights.startswith(RANDOM_PREFIX)
        return Path(self.weights) if is_file else None

    @property
    def seed(self) -> int | None:
        if not self.weights.startswith(RANDOM_PREFIX):
            return None
        text = self.weights.removeprefix(RANDOM_PREFIX)
        if not text.isdecimal():
            message = f"expected random:SEED with a whole number, such as random:0, got {text!r}"
            raise WeightsError(message)
        return int(text)


def load_encoder(
    name: str,
    *,
    weights: str | Path | None = None,
    image_size_px: int | None = None,
    features: FeatureKind = "vector",
    layer: str | None = None,
) -> Encoder:
    """Build an encoder and load its weights strictly.

    Args:
        name: A timm name, ``torchvision:NAME``, or a checkpoint of ours (.safetensors).
        weights: A file, ``timm`` (what timm publishes) or ``random:SEED``; a checkpoint brings its
            own.
        image_size_px: Side of the images; without it the checkpoint's, else 144.
        features: One vector an image, or the map it is pooled from.
        layer: Module of the backbone that the features are taken from, such as ``layer3``;
            without it the last map.

    Returns:
        The encoder, in evaluation mode, in float32, on the CPU.

    Raises:
        UnknownEncoderError: No library has it; names the nearest.
        WeightsError: Weights are not named, cannot be read, or do not fit; names the keys.
        EncoderError: It cannot encode images of this size, has no such layer, or no map there.
    """
    request = _resolve(name, None if weights is None else str(weights), image_size_px)
    # Building draws random numbers: they are not taken from the caller's.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(request.seed or 0)
        module = _build(request)
    if request.file is not None:
        load_strictly(
            module.backbone,
            read_weights(request.file),
            classifiers=_classifiers(request, module.backbone),
            what=f"weights {request.file} for {request.architecture}",
        )
    if layer is not None:
        module = LayerModule(module, layer)
    _check_output(module, request, features, layer)
    if features == "map":
        module = MapModule(module)
    module.eval().requires_grad_(requires_grad=False)
    mean, std = _normalisation(request, module.backbone)
    return Encoder(
        name=request.name,
        architecture=request.architecture,
        weights=request.weights if request.file is None else str(request.file.absolute()),
        weights_sha256=(
            hash_file(request.file)
            if request.file is not None
            else hash_tensors(module.backbone.state_dict())
        ),
        trained_on=_trained_on(request),
        module=module,
        image_size_px=request.image_size_px,
        mean=mean,
        std=std,
        feature_shape=_measure_features(module, request),
        layer=layer,
    )


def _resolve(name: str, weights: str | None, image_size_px: int | None) -> _Request:
    info: CheckpointInfo | None = None
    if name.endswith(CHECKPOINT_SUFFIXES):
        if weights is not None:
            message = f"the checkpoint {name} brings its own weights; drop --weights {weights}"
            raise WeightsError(message)
        info, weights = read_checkpoint(Path(name)), name
        library, _, model = info.architecture.partition("/")
        name = f"{library}:{model}" if library == "torchvision" else model
    if weights is None:
        message = f"no weights named for {name}; expected {CHOICES}"
        raise WeightsError(message)
    request = _Request(name=name, weights=weights, image_size_px=0, info=None)
    if request.seed is None and request.file is not None and info is None:
        _check_file(request.file)
        info = read_info(request.file)
    if info is not None and info.architecture != request.architecture:
        message = f"{weights} holds weights of {info.architecture}, not of {request.architecture}"
        raise WeightsError(message)
    default_px = info.image_size_px if info is not None else DEFAULT_IMAGE_SIZE_PX
    size_px = default_px if image_size_px is None else image_size_px
    if size_px < 1:
        message = f"expected an image size of at least 1 px, got {size_px}"
        raise EncoderError(message)
    return _Request(name=name, weights=weights, image_size_px=size_px, info=info)


def _check_file(path: Path) -> None:
    if not path.is_file():
        message = f"weights {path}: no such file; expected {CHOICES}"
        raise WeightsError(message)


def _build(request: _Request) -> EncoderModule:
    size_px = request.image_size_px
    if request.is_torchvision:
        if request.weights == "timm":
            message = f"timm publishes no weights for {request.name}; use a file or random:SEED"
            raise WeightsError(message)
        return torchvision_models.build_torchvision(
            request.name.removeprefix(torchvision_models.PREFIX)
        )
    backbone = timm_models.build_timm(
        request.name, image_size_px=size_px, pretrained=request.weights == "timm"
    )
    try:
        return timm_models.TimmModule(backbone, image_size_px=size_px)
    except (RuntimeError, AssertionError, ValueError, AttributeError) as error:
        raise EncoderError(_cannot_encode(request, error)) from error


def _classifiers(request: _Request, backbone: nn.Module) -> tuple[str, ...]:
    if request.is_torchvision:
        return torchvision_models.CLASSIFIERS
    return timm_models.classifier_names(backbone)


def _normalisation(
    request: _Request, backbone: nn.Module
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    if request.info is not None:
        return request.info.mean, request.info.std
    if request.weights == "timm":
        config: Any = backbone.pretrained_cfg
        return tuple(config["mean"]), tuple(config["std"])
    return IMAGENET_MEAN, IMAGENET_STD


def _trained_on(request: _Request) -> tuple[str, ...] | None:
    if request.seed is not None:
        return ()
    return request.info.trained_on if request.info is not None else None


def _check_output(
    module: EncoderModule, request: _Request, features: FeatureKind, layer: str | None
) -> None:
    """Refuse maps where the encoder has none: tokens, or channels in the last place."""
    if features == "vector" and layer is None:
        return
    maps = _try(module.feature_map, request)
    if not is_square_map(maps):
        where = f"layer {layer}" if layer else "the last layer"
        message = (
            f"{request.name} has no map of positions at {where}: expected [D, h, h] an image, got "
            f"{list(maps.shape[1:])}; take another layer, or its vectors without --layer"
        )
        raise EncoderError(message)


def _measure_features(module: EncoderModule, request: _Request) -> tuple[int, ...]:
    features = _try(module, request)
    if features.ndim != 2 and not isinstance(module, MapModule):
        message = f"{request.name} gives {list(features.shape[1:])} an image, not one vector"
        raise EncoderError(message)
    return tuple(features.shape[1:])


def _try(encode: Callable[[Tensor], Tensor], request: _Request) -> Tensor:
    try:
        with torch.inference_mode():
            return encode(example_images(request.image_size_px))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise EncoderError(_cannot_encode(request, error)) from error


def _cannot_encode(request: _Request, error: Exception) -> str:
    return f"{request.name} cannot encode images of {request.image_size_px} px: {error}"
