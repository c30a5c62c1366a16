"""The head of one replicate, for one bag at a time.

Shapes: N cells of the bag, D features, H and W sides of a map, K reduced features, A attentions
(C where each class has its own, else 1), C classes.

This module is the definition: initial weights, parameter names and the prediction of a single
patient come from here. The engine trains many heads at once with the same parameters stacked.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aml_mil.mil.config import Attention, FitConfig, Pool

KERNEL_SIZE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """Say what a head is made of.

    Attributes:
        feature_shape: Shape of one cell's features in the store, ``(D,)`` or ``(D, H, W)``.
        num_classes: C.
        widths: Outputs of the reducing convolutions; the last is K.
        attention: One attention per class, one shared by all, or one with a gate.
        pool: How the cells become a bag vector.
        attention_hidden: Hidden units of the attention.
        classifier_hidden: Hidden units of each class's classifier.

    Raises:
        ValueError: The features are neither vectors nor maps, or the maps are too small for a
            2x2 convolution per width.
    """

    feature_shape: tuple[int, ...]
    num_classes: int
    widths: tuple[int, ...] = (300, 200, 150, 100)
    attention: Attention = "class"
    pool: Pool = "attention"
    attention_hidden: int = 128
    classifier_hidden: int = 64

    def __post_init__(self) -> None:
        if len(self.feature_shape) not in (1, 3):
            raise ValueError(
                f"feature_shape: expected vectors (D,) or maps (D, H, W), got {self.feature_shape}"
            )
        if self.map_size and min(self.map_size) <= len(self.widths) * (KERNEL_SIZE - 1):
            raise ValueError(
                f"feature_shape: expected maps of {len(self.widths) + 1}x{len(self.widths) + 1} or "
                f"more for {len(self.widths)} convolutions of {KERNEL_SIZE}x{KERNEL_SIZE}, got "
                f"{self.feature_shape}; give fewer widths, or embed larger images"
            )

    @classmethod
    def of(
        cls, config: FitConfig, *, feature_shape: tuple[int, ...], num_classes: int
    ) -> "HeadShape":
        """Return what a run's settings make of its features and classes."""
        return cls(
            feature_shape=feature_shape,
            num_classes=num_classes,
            widths=config.widths,
            attention=config.attention,
            pool=config.pool,
            attention_hidden=config.attention_hidden,
            classifier_hidden=config.classifier_hidden,
        )

    @property
    def map_size(self) -> tuple[int, ...]:
        """H and W; empty where the features are vectors."""
        return self.feature_shape[1:]

    @property
    def num_attentions(self) -> int:
        """A."""
        return self.num_classes if self.pool == "attention" and self.attention == "class" else 1


class HeadOutput(NamedTuple):
    """What a head says about one bag."""

    logits: Tensor
    """One logit per class, [C]."""
    scores: Tensor
    """Attention of each cell for each class before the softmax over cells, [N, C]; all 0 where
    nothing is learnt of it."""


class Head(nn.Module):
    """Classify a bag from its cells.

    Four convolutions with ReLU reduce each cell (2x2 without padding on maps, whose remaining
    positions are averaged; 1x1 on vectors, which makes them linear layers). Linear-tanh-Linear
    scores it, once per class or once; the softmax of class c's scores over the bag's cells weighs
    the reduced cells into the bag vector Z^c; class c's own classifier turns Z^c into its logit.
    The mean or the maximum over the cells can stand in for the attention.

    Source:
        Kazeminia, Joosten et al. 2024, section 3, https://arxiv.org/abs/2403.05379; shared and
        gated attention: Ilse et al. 2018, eq. 8 and 9, https://arxiv.org/abs/1802.04712
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        inputs = (shape.feature_shape[0], *shape.widths[:-1])
        self.reduction = nn.ModuleList(
            nn.Conv2d(i, o, KERNEL_SIZE) if shape.map_size else nn.Linear(i, o)
            for i, o in zip(inputs, shape.widths, strict=True)
        )
        if shape.pool == "attention":
            self.attention_hidden = nn.Linear(shape.widths[-1], shape.attention_hidden)
            if shape.attention == "gated":
                self.attention_gate = nn.Linear(shape.widths[-1], shape.attention_hidden)
            self.attention_score = nn.Linear(shape.attention_hidden, shape.num_attentions)
        self.classifier_hidden = ClassLinear(
            shape.num_classes, shape.widths[-1], shape.classifier_hidden
        )
        self.classifier_logit = ClassLinear(shape.num_classes, shape.classifier_hidden, 1)

    def forward(self, cells: Tensor) -> HeadOutput:
        """Classify one bag.

        Args:
            cells: Features of the bag's cells, [N, D] or [N, D, H, W], in any order.
        """
        return self.classify(self.reduce(cells))

    def reduce(self, cells: Tensor) -> Tensor:
        """Reduce each cell to K features, [N, K]."""
        for layer in self.reduction:
            cells = torch.relu(layer(cells))
        return cells.flatten(2).mean(dim=2) if self.shape.map_size else cells

    def classify(self, reduced: Tensor) -> HeadOutput:
        """Classify one bag of reduced cells, [N, K]."""
        scores = self._score(reduced)
        if self.shape.pool == "max":
            bag = reduced.max(dim=0, keepdim=True).values
        else:
            bag = scores.softmax(dim=0).T @ reduced
        bag = bag.expand(self.shape.num_classes, -1)
        return HeadOutput(
            logits=self.classifier_logit(torch.relu(self.classifier_hidden(bag))).squeeze(1),
            scores=scores.expand(-1, self.shape.num_classes),
        )

    def _score(self, reduced: Tensor) -> Tensor:
        """Score the cells, [N, A]."""
        if self.shape.pool != "attention":
            return reduced.new_zeros(len(reduced), 1)
        hidden = torch.tanh(self.attention_hidden(reduced))
        if self.shape.attention == "gated":
            hidden = hidden * torch.sigmoid(self.attention_gate(reduced))
        scores: Tensor = self.attention_score(hidden)
        return scores


class ClassLinear(nn.Module):
    """Apply to each class's vector the linear layer of that class: [C, in] → [C, out]."""

    def __init__(self, num_classes: int, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, num_outputs, num_inputs))
        self.bias = nn.Parameter(torch.empty(num_classes, num_outputs))

    def forward(self, vectors: Tensor) -> Tensor:
        """Apply each class's layer, [C, in] → [C, out]."""
        return torch.einsum("ck,cok->co", vectors, self.weight) + self.bias


def initial_head(shape: HeadShape, *, seed: int) -> Head:
    """Draw a head's initial weights, a pure function of the seed.

    Weights and biases are uniform in ±1/√fan_in, as in PyTorch's linear and convolution layers.
    They are drawn in float32 whatever precision trains them.
    """
    generator = torch.Generator().manual_seed(seed)
    head = Head(shape)
    with torch.no_grad():
        for layer in head.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d | ClassLinear):
                fan_in = layer.weight.shape[-1]
                if isinstance(layer, nn.Conv2d):
                    fan_in = layer.weight[0].numel()
                bound = 1 / math.sqrt(fan_in)
                layer.weight.uniform_(-bound, bound, generator=generator)
                assert layer.bias is not None
                layer.bias.uniform_(-bound, bound, generator=generator)
    return head
