"""SimCLR: two views of a cell are each other's positive, all other cells are negatives."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from aml_mil.ssl.config import (
    PretrainConfig,
    require_at_least,
    require_positive,
    require_scales,
    require_share,
    with_shared_settings,
)
from aml_mil.ssl.heads import SimclrHead
from aml_mil.ssl.method import (
    Method,
    OptimiserSettings,
    RunLength,
    StepOutput,
    StepValues,
    encode_crops,
)
from aml_mil.ssl.ntxent import nt_xent_loss
from aml_mil.ssl.views import CropRecipe, Views

TRUST_COEFFICIENT = 0.001  # Source: V.


@with_shared_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class SimclrConfig(PretrainConfig):
    """Settings of SimCLR; SGD with momentum 0.9 (P) and LARC with a trust of 0.001 (V).

    Attributes:
        epochs: Length of the run. Source: P.
        lr: Peak learning rate at batch size 256, in proportion at others; a cosine then brings it
            to 0. Source: V.
        weight_decay: Of weights; biases and norms have none. Source: V.
        warmup: Linear rise of the learning rate: below 1 a share of the run, else epochs.
            Source: V (10%).
        temperature: Divides the cosines. Source: P.
        head_hidden: Width inside the head. Source: P.
        head_out: Dimensions in which views are compared. Source: P.
        min_scale: Smallest crop, as a share of the image's area. Source: V.
        jitter: Largest change of brightness, contrast and saturation; a quarter of it for the
            hue. Source: V.
    """

    temperature: float = 0.1
    head_hidden: int = 512
    head_out: int = 64
    min_scale: float = 0.08
    jitter: float = 0.8

    def __post_init__(self) -> None:
        PretrainConfig.__post_init__(self)
        require_positive(self, "temperature")
        require_scales(self, "min_scale")
        require_at_least(self, 1, "head_hidden", "head_out")
        require_share(self, "jitter")
        require_at_least(self, 2, "batch_size")


class Simclr(Method):
    """Encoder and head of SimCLR.

    Args:
        config: Settings.
        length: Of the run.
    """

    name = "simclr"

    def __init__(self, config: SimclrConfig, length: RunLength) -> None:
        super().__init__(config, length)
        self.config = config
        self.head = SimclrHead(self.num_features, hidden=config.head_hidden, out=config.head_out)

    @property
    def chance_loss(self) -> float:
        """ln(2B - 1): all views look alike."""
        return math.log(2 * self.config.batch_size - 1)

    @property
    def optimiser(self) -> OptimiserSettings:
        """SGD with LARC."""
        return OptimiserSettings(name="sgd", trust_coefficient=TRUST_COEFFICIENT)

    def views(self) -> Views:
        """Two crops of one kind."""
        recipe = CropRecipe(
            size_px=self.config.image_size_px,
            min_scale=self.config.min_scale,
            max_scale=1.0,
            rotate=0.5,
            jitter=self.config.jitter,
            saturation=self.config.jitter,
            hue=self.config.jitter / 4,
        )
        return Views([recipe.build(), recipe.build()], seed=self.config.seed)

    def values_at(self, step: int) -> StepValues:
        """Warm up, then fall to 0 along a cosine."""
        lr = self.scheduled_lr(self.config, step, end=0.0)
        return StepValues(lr, self.config.weight_decay)

    def forward(self, crops: Sequence[Tensor], targets: Tensor) -> StepOutput:
        """Contrast the two views."""
        first, second = (self.head(f) for f in encode_crops(self.backbone, crops))
        loss = nt_xent_loss(first, second, temperature=self.config.temperature)
        return StepOutput(loss, first.detach(), None)
