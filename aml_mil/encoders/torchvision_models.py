"""Encoders of torchvision: those of which the last map can be had by a general rule.

The vector is the mean over the positions of the last map: of ``features(x)`` for models made of
`features` and `classifier`, of the last stage for the ResNet family.
"""

import difflib
import warnings

import torchvision
from torch import Tensor, nn

from aml_mil.encoders.encoder import EncoderModule
from aml_mil.encoders.errors import UnknownEncoderError

PREFIX = "torchvision:"
CLASSIFIERS = ("classifier", "fc")


class FeaturesModule(EncoderModule):
    """A model whose convolutions are `features`."""

    def feature_map(self, images: Tensor) -> Tensor:
        """Compute ``features(images)``, [B, D, h, w]."""
        maps: Tensor = self.backbone.features(images)  # type: ignore[operator]
        return maps


class ResNetModule(EncoderModule):
    """A ResNet: all children in order up to the pooling."""

    def feature_map(self, images: Tensor) -> Tensor:
        """Compute the map of the last stage, [B, D, h, w]."""
        maps = images
        for name, child in self.backbone.named_children():
            if name == "avgpool":
                break
            maps = child(maps)
        return maps


def build_torchvision(name: str) -> EncoderModule:
    """Create a torchvision model without its classifier.

    Args:
        name: As torchvision lists it, without the prefix: ``squeezenet1_0``.

    Returns:
        The module, in evaluation mode.

    Raises:
        UnknownEncoderError: torchvision has no such model, or the rule does not cover it.
    """
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
        message = f"unknown encoder {PREFIX}{name}; nearest name in torchvision: {PREFIX}{near[0]}"
        raise UnknownEncoderError(message)
    with warnings.catch_warnings():
        # Some models announce a later change of their random weights.
        warnings.simplefilter("ignore", FutureWarning)
        model: nn.Module = torchvision.models.get_model(name, weights=None).eval()
    children = {child for child, _ in model.named_children()}
    if children - {"avgpool"} == {"features", "classifier"}:
        model.classifier = nn.Identity()
        return FeaturesModule(model)
    if isinstance(model, torchvision.models.ResNet):
        model.fc = nn.Identity()
        return ResNetModule(model)
    message = (
        f"no features can be taken from {PREFIX}{name}: it is neither a ResNet nor made of "
        f"`features` and `classifier`; timm may have it under the name {name}"
    )
    raise UnknownEncoderError(message)
