"""Encoders of timm: any of its image models, without the classifier."""

import dataclasses
import difflib
import socket
import ssl
import urllib.error
import urllib.request
from typing import Any

import timm
import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import Tensor, nn

from aml_mil.encoders.encoder import EncoderModule, example_images
from aml_mil.encoders.errors import EncoderError, UnknownEncoderError, WeightsError

PROBE_TIMEOUT_S = 5.0


class TimmModule(EncoderModule):
    """A timm model; pooled in float32 where its own pooling is the mean over positions.

    Args:
        backbone: A timm model without classifier, in evaluation mode.
        image_size_px: Side of the images it will be given.
    """

    def __init__(self, backbone: nn.Module, *, image_size_px: int) -> None:
        super().__init__(backbone)
        self.pools_by_mean = _pools_by_mean(backbone, image_size_px)

    def feature_map(self, images: Tensor) -> Tensor:
        """Compute what the model pools: a map, or the tokens of a transformer."""
        maps: Tensor = self.backbone.forward_features(images)  # type: ignore[operator]
        return maps

    def pool(self, maps: Tensor) -> Tensor:
        """Pool as the model does, [B, D]."""
        if self.pools_by_mean:
            return super().pool(maps)
        pooled: Tensor = self.backbone.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        return pooled


def build_timm(name: str, *, image_size_px: int, pretrained: bool = False) -> nn.Module:
    """Create a timm model without its classifier.

    Args:
        name: As timm lists it, with or without a tag.
        image_size_px: Side of the images; transformers of one fixed size are built for it.
        pretrained: Load the weights that timm publishes, over the network unless cached.

    Returns:
        The model, in evaluation mode.

    Raises:
        UnknownEncoderError: timm has no such model.
        WeightsError: The published weights cannot be had.
        EncoderError: The model cannot be built for this image size.
    """
    if not timm.is_model(name):
        raise UnknownEncoderError(_suggest(name))
    options: dict[str, Any] = {"num_classes": 0}
    try:
        config = _pretrained_cfg(name)
        if config.get("fixed_input_size"):
            options["img_size"] = image_size_px
        if pretrained:
            options |= {"pretrained": True, "pretrained_cfg_overlay": _local_weights(name, config)}
        return timm.create_model(name, **options).eval()
    except OSError as error:
        raise WeightsError(_no_network(name)) from error
    except (RuntimeError, ValueError, AssertionError, TypeError) as error:
        message = f"timm cannot build {name} for images of {image_size_px} px: {error}"
        raise EncoderError(message) from error


def classifier_names(backbone: nn.Module) -> tuple[str, ...]:
    """Read which modules of a timm model are its classifier, such as ``("fc",)``."""
    names = getattr(backbone, "pretrained_cfg", {}).get("classifier") or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _pretrained_cfg(name: str) -> dict[str, Any]:
    config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    return dataclasses.asdict(config) if config is not None else {}


def _pools_by_mean(backbone: nn.Module, image_size_px: int) -> bool:
    with torch.inference_mode():
        maps: Tensor = backbone.forward_features(  # type: ignore[operator]
            example_images(image_size_px)
        )
        pooled: Tensor = backbone.forward_head(maps, pre_logits=True)  # type: ignore[operator]
    if maps.ndim != 4 or pooled.shape != maps.shape[:2]:
        return False
    return torch.allclose(maps.mean((2, 3)), pooled, rtol=1e-4, atol=1e-6)


def _suggest(name: str) -> str:
    known = timm.list_models()
    near = difflib.get_close_matches(name.partition(".")[0], known, n=1, cutoff=0.0)
    return (
        f"unknown encoder {name!r}; nearest name in timm: {near[0]}; "
        "others are torchvision:NAME and FILE.safetensors"
    )


def _local_weights(name: str, config: dict[str, Any]) -> dict[str, Any]:
    """Point timm to cached weights, so that it need not ask the network; check that it can."""
    repository = config.get("hf_hub_id")
    if not repository and not config.get("url"):
        message = f"timm publishes no weights for {name}; use --weights FILE or random:SEED"
        raise WeightsError(message)
    if repository:
        file_name = config.get("hf_hub_filename") or "model.safetensors"
        cached = try_to_load_from_cache(repository, file_name)
        if isinstance(cached, str):
            return {"file": cached}
        if not _is_reachable(constants.ENDPOINT):
            raise WeightsError(_no_network(name))
    return {}


def _is_reachable(url: str) -> bool:
    """Ask once: the client library would try twelve times over most of a minute."""
    try:
        request = urllib.request.Request(url, method="HEAD")
        with urllib.request.urlopen(request, timeout=PROBE_TIMEOUT_S):
            return True
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLError)
    except (TimeoutError, socket.gaierror):
        return False


def _no_network(name: str) -> str:
    return (
        f"the weights of {name} are not in the local cache, and {constants.ENDPOINT} "
        "cannot be reached; use --weights FILE or random:SEED, or connect and try again"
    )
