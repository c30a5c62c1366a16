"""Features from elsewhere than the pooled end of an encoder: maps, and layers before the last.

Shapes: B images, S pixels a side, D features, h positions a side of a map.
"""

import difflib
import warnings
from typing import Literal

from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from aml_mil.encoders.encoder import EncoderModule
from aml_mil.encoders.errors import EncoderError

FeatureKind = Literal["vector", "map"]
_OUT = "layer"


class LayerModule(EncoderModule):
    """An encoder that ends with one of its layers; what comes after it is not computed.

    Args:
        module: The whole encoder.
        layer: Name of a module of its backbone: ``layer3``, ``layer3.1``.

    Raises:
        EncoderError: The backbone has no such layer, or cannot be cut there.
    """

    def __init__(self, module: EncoderModule, layer: str) -> None:
        super().__init__(module.backbone)
        self._extractor = _cut(module.backbone, layer)

    def feature_map(self, images: Tensor) -> Tensor:
        """Compute the map of the layer, [B, D, h, h]."""
        maps: Tensor = self._extractor(images)[_OUT]
        return maps


class MapModule(EncoderModule):
    """An encoder that gives maps instead of vectors.

    Args:
        module: The encoder; left as it is.
    """

    def __init__(self, module: EncoderModule) -> None:
        super().__init__(module.backbone)
        self._module = module

    def feature_map(self, images: Tensor) -> Tensor:
        """Compute the encoder's map, [B, D, h, h]."""
        return self._module.feature_map(images)

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, [B, 3, S, S], to maps, [B, D, h, h]."""
        return self.feature_map(images)


def is_square_map(maps: Tensor) -> bool:
    """Whether a batch of outputs is [B, D, h, h]; tokens and channels-last maps are not."""
    return maps.ndim == 4 and maps.shape[2] == maps.shape[3]


def _cut(backbone: nn.Module, layer: str) -> nn.Module:
    names = [name for name, _ in backbone.named_modules() if name]
    if layer not in names:
        near = difflib.get_close_matches(layer, names, n=1, cutoff=0.0)[0]
        children = ", ".join(name for name, _ in backbone.named_children())
        message = f"no layer {layer!r} in this encoder; nearest: {near}; its stages: {children}"
        raise EncoderError(message)
    try:
        with warnings.catch_warnings():
            # Paths that only training takes are told of; encoders are always in evaluation mode.
            warnings.simplefilter("ignore", UserWarning)
            extractor = create_feature_extractor(backbone, {layer: _OUT}).eval()
    except (ValueError, RuntimeError, TypeError, fx.proxy.TraceError) as error:
        message = f"the encoder cannot be cut after layer {layer!r}: {error}"
        raise EncoderError(message) from error
    # torchvision's own module goes back to training mode, without a word, when it is copied.
    return fx.GraphModule(extractor, extractor.graph).eval()
