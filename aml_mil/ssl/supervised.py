"""Supervised training on annotated cells: the encoder of the earlier AML paper."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from aml_mil.ssl.config import PretrainConfig, require_share, with_shared_settings
from aml_mil.ssl.method import (
    Method,
    OptimiserSettings,
    RunLength,
    StepOutput,
    StepValues,
)
from aml_mil.ssl.views import Views, supervised_pipeline


@with_shared_settings
@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisedConfig(PretrainConfig):
    """Settings of supervised training; cross-entropy, every cell type drawn equally often.

    Attributes:
        architecture: Encoder, as timm names it. Source: P, H.
        epochs: Length of the run; an epoch draws as many cells as are annotated. Source: P, H.
        batch_size: Images of a step over all processes. Source: ours.
        lr: Learning rate of SGD, the same at any batch size, throughout. Source: P, H.
        momentum: Of SGD, Nesterov's. Source: H.
        weight_decay: Of weights; biases and norms have none. Source: ours (none).
        warmup: Linear rise of the learning rate: below 1 a share of the run, else epochs.
            Source: ours (none).
        jitter: Largest change of brightness, contrast and saturation, a quarter of it for the hue,
            so that types are not told apart by their stain. Source: ours (none in P, H).
    """

    architecture: str = "resnet34"
    epochs: int = 50
    batch_size: int = 32
    lr: float = 5e-4
    momentum: float = 0.9
    weight_decay: float = 0.0
    warmup: float = 0.0
    jitter: float = 0.0

    def __post_init__(self) -> None:
        PretrainConfig.__post_init__(self)
        require_share(self, "jitter")
        if not 0 < self.momentum < 1:
            raise ValueError(f"momentum: expected a number between 0 and 1, got {self.momentum}")


class Supervised(Method):
    """Encoder and classifier of cell types.

    Args:
        config: Settings.
        length: Of the run.
        num_types: Cell types to tell apart.
    """

    name = "supervised"
    uses_types = True

    def __init__(self, config: SupervisedConfig, length: RunLength, *, num_types: int) -> None:
        super().__init__(config, length)
        self.config = config
        self.num_types = num_types
        self.head = nn.Linear(self.num_features, num_types)

    @property
    def chance_loss(self) -> float:
        """Ln of the number of types: all are equally likely, as they are drawn."""
        return math.log(self.num_types)

    @property
    def optimiser(self) -> OptimiserSettings:
        """SGD with Nesterov's momentum."""
        return OptimiserSettings(name="sgd", momentum=self.config.momentum, is_nesterov=True)

    def views(self) -> Views:
        """One picture, moved and erased at random, and recoloured if asked."""
        pipeline = supervised_pipeline(self.config.image_size_px, jitter=self.config.jitter)
        return Views([pipeline], seed=self.config.seed)

    def values_at(self, step: int) -> StepValues:
        """Rise during the warm-up, if there is one, then stay."""
        warmup = self.steps(self.config.warmup)
        share = (step + 1) / warmup if step < warmup else 1.0
        return StepValues(self.config.lr * share, self.config.weight_decay)

    def forward(self, crops: Sequence[Tensor], targets: Tensor) -> StepOutput:
        """Name the cell types."""
        (images,) = crops
        logits = self.head(self.backbone(images))
        return StepOutput(cross_entropy(logits.float(), targets), None, None)
