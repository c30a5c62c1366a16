"""What every pre-training method is to the training loop.

Shapes: B images, s pixels a side of a crop, D features, K outputs or prototypes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from aml_mil.encoders.timm_models import build_timm
from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.schedules import length_in_steps, warmup_cosine_schedule
from aml_mil.ssl.views import Views


class StepOutput(NamedTuple):
    """What one step computes.

    Attributes:
        loss: Of the images of this process, a scalar.
        projections: [B, …] of the first crop, without gradient; None for supervised training.
        usage: Mean share of each prototype or output, [K]; None for methods without.
    """

    loss: Tensor
    projections: Tensor | None
    usage: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimiserSettings:
    """How a method's weights are moved.

    Attributes:
        name: ``sgd``, ``adam`` or ``adamw``.
        momentum: Of SGD.
        is_nesterov: Whether SGD's momentum looks ahead.
        trust_coefficient: Of LARC; None for plain steps.
    """

    name: str
    momentum: float = 0.9
    is_nesterov: bool = False
    trust_coefficient: float | None = None


class StepValues(NamedTuple):
    """Scheduled values of one step."""

    lr: float
    weight_decay: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RunLength:
    """How long the run is, for schedules.

    Attributes:
        epochs: Of the run.
        steps_per_epoch: 1 or more.
    """

    epochs: int
    steps_per_epoch: int

    @property
    def num_steps(self) -> int:
        """Steps of the run."""
        return self.epochs * self.steps_per_epoch


class Method(nn.Module, ABC):
    """Encoder, heads and loss of one method; all its state is in its state dict.

    Args:
        config: Settings.
        length: Of the run.

    Attributes:
        backbone: What is trained.
        num_features: D, what the backbone gives.
        uses_types: Whether it learns from cell types.
    """

    name: ClassVar[str]
    uses_types: ClassVar[bool] = False

    def __init__(self, config: PretrainConfig, length: RunLength) -> None:
        super().__init__()
        self.length = length
        self.backbone, self.num_features = build_backbone(config)

    def steps(self, length: float) -> int:
        """Count the steps of a length: below 1 a share of the run, else epochs."""
        return length_in_steps(
            length, epochs=self.length.epochs, steps_per_epoch=self.length.steps_per_epoch
        )

    def scheduled_lr(self, config: PretrainConfig, step: int, *, end: float) -> float:
        """Return a step's learning rate: a linear warm-up to the peak, then a cosine.

        Args:
            config: Peak at batch size 256, scaled with the batch size, and warm-up.
            step: From 0.
            end: Rate at the end.
        """
        return warmup_cosine_schedule(
            step,
            num_steps=self.length.num_steps,
            num_warmup_steps=self.steps(config.warmup),
            peak=peak_lr(config),
            end=end,
        )

    @property
    def exported(self) -> nn.Module:
        """The encoder that is saved."""
        return self.backbone

    @property
    @abstractmethod
    def chance_loss(self) -> float:
        """Loss of a network that tells nothing apart, in nats."""

    @property
    @abstractmethod
    def optimiser(self) -> OptimiserSettings:
        """How the weights are moved."""

    @abstractmethod
    def views(self) -> Views:
        """The crops that `forward` takes."""

    @abstractmethod
    def values_at(self, step: int) -> StepValues:
        """Learning rate and weight decay of a step."""

    @abstractmethod
    def forward(self, crops: Sequence[Tensor], targets: Tensor) -> StepOutput:
        """Compute the loss of a batch.

        Args:
            crops: [B, 3, s, s] of each view, normalised.
            targets: Number of each image's cell type, [B]; -1 where it has none.
        """

    def before_step(self, step: int) -> None:
        """Set what depends on the step; called before `forward`."""

    def before_update(self, step: int) -> None:
        """Change gradients, unscaled and averaged over processes, before the optimiser's step."""

    def after_update(self, step: int) -> None:
        """Update what is not trained by gradients."""


def peak_lr(config: PretrainConfig) -> float:
    """Scale the learning rate, which is that of batches of 256, to the batch size."""
    return config.lr * config.batch_size / 256


def build_backbone(config: PretrainConfig) -> tuple[nn.Module, int]:
    """Create a random encoder.

    Args:
        config: Names it.

    Returns:
        The network without a classifier, in training mode, and D.
    """
    backbone = build_timm(config.architecture, image_size_px=config.image_size_px)
    backbone.train()
    if config.checkpointing:
        _recompute_activations(backbone)
    if config.compile:
        backbone.compile()
    return backbone, int(backbone.num_features)  # type: ignore[arg-type]


def _recompute_activations(backbone: nn.Module) -> None:
    backbone.set_grad_checkpointing(enable=True)  # type: ignore[operator]
    for name, module in backbone.named_modules():
        # A recomputed layer sees each batch twice: two of these updates equal one of the usual.
        if name.startswith("layer") and isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.momentum is not None
            module.momentum = 1 - (1 - module.momentum) ** 0.5


def encode_crops(network: nn.Module, crops: Sequence[Tensor]) -> list[Tensor]:
    """Run crops through a network, crops of one size in one pass.

    Args:
        network: [n, 3, s, s] → [n, …].
        crops: [B, 3, s, s] of each view; crops of one size stand together.

    Returns:
        [B, …] for each crop, in their order.
    """
    outputs: list[Tensor] = []
    for _, same in groupby(crops, key=lambda crop: crop.shape[-1]):
        group = list(same)
        outputs.extend(network(torch.cat(group)).chunk(len(group)))
    return outputs
