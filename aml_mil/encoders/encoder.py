"""What every encoder looks like from outside.

Shapes: B images, S pixels a side, D features, h x w positions of the last map.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from stores import JSON

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_IMAGE_SIZE_PX = 144


class EncoderModule(nn.Module, ABC):
    """A trunk without its classifier; images → map → one vector an image.

    Attributes:
        backbone: The library's model, whose state dict has the library's keys.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """Compute the last map, [B, D, h, w], of normalised images, [B, 3, S, S]."""

    def pool(self, maps: Tensor) -> Tensor:
        """Average the positions in float32: [B, D, h, w] → [B, D]."""
        return maps.float().mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Encode normalised images, [B, 3, S, S], to vectors, [B, D]."""
        return self.pool(self.feature_map(images))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoder:
    """A frozen network, and all that its features depend on.

    Attributes:
        name: ``resnet18``, ``torchvision:squeezenet1_0``.
        architecture: Library and model: ``timm/resnet18``.
        weights: What was asked for: the whole path of a file, ``timm``, ``random:0``.
        weights_sha256: Of the file; for other weights of the names and bytes of all tensors.
        trained_on: Ids of the patients the weights have seen; None where nobody wrote them down.
        module: In evaluation mode, in float32, on the CPU.
        image_size_px: Side of the square images it is given.
        mean: Of the channels R, G, B on the scale 0 to 1, subtracted before encoding.
        std: Of the channels, divided by.
        feature_shape: Of one image's features, without the batch: ``(512,)``, or of a map
            ``(512, 5, 5)``.
        layer: Where in the backbone the features are taken; None is its last map.
    """

    name: str
    architecture: str
    weights: str
    weights_sha256: str
    trained_on: tuple[str, ...] | None
    module: EncoderModule
    image_size_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    feature_shape: tuple[int, ...]
    layer: str | None = None

    @property
    def preprocessing(self) -> Mapping[str, JSON]:
        """How a fitted image becomes features beside the weights, as a store records it."""
        layer: dict[str, JSON] = {} if self.layer is None else {"layer": self.layer}
        return layer | {
            "image_size_px": self.image_size_px,
            "mean": list(self.mean),
            "std": list(self.std),
            "scale": "rgb / 255",
        }

    @property
    def library(self) -> str:
        """Distribution that holds the model: ``timm`` or ``torchvision``."""
        return self.architecture.partition("/")[0]


def example_images(image_size_px: int) -> Tensor:
    """Draw one image of noise, [1, 3, S, S], always the same."""
    generator = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, image_size_px, image_size_px, generator=generator)
