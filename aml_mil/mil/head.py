"""The attention head of one replicate, for one bag at a time.

Shapes: N cells of the bag, D features, K reduced features, C classes.

This module is the definition: initial weights, parameter names and the prediction of a single
patient come from here. The engine trains many heads at once with the same parameters stacked.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadShape:
    """Size a head.

    Attributes:
        feature_shape: Shape of one cell's features in the store, ``(D,)``.
        num_classes: C.
        widths: Outputs of the reducing convolutions; the last is K.
        attention_hidden: Hidden units of the attention.
        classifier_hidden: Hidden units of each class's classifier.

    Raises:
        ValueError: The features are not vectors.
    """

    feature_shape: tuple[int, ...]
    num_classes: int
    widths: tuple[int, ...] = (300, 200, 150, 100)
    attention_hidden: int = 128
    classifier_hidden: int = 64

    def __post_init__(self) -> None:
        if len(self.feature_shape) != 1:
            raise ValueError(
                f"feature_shape: expected vectors (D,), got {self.feature_shape}; "
                "embed the cohort as vectors"
            )


class HeadOutput(NamedTuple):
    """What a head says about one bag."""

    logits: Tensor
    """One logit per class, [C]."""
    scores: Tensor
    """Attention of each cell for each class before the softmax over cells, [N, C]."""


class Head(nn.Module):
    """Classify a bag from its cells by class-wise attention.

    Four convolutions with ReLU reduce each cell (1x1 on vectors, which makes them linear layers);
    Linear-tanh-Linear scores it once per class; the softmax of class c's scores over the bag's
    cells weighs the reduced cells into the bag vector Z^c; class c's own classifier turns Z^c into
    its logit.

    Source:
        Kazeminia, Joosten et al. 2024, section 3, https://arxiv.org/abs/2403.05379
    """

    def __init__(self, shape: HeadShape) -> None:
        super().__init__()
        self.shape = shape
        inputs = (shape.feature_shape[0], *shape.widths[:-1])
        self.reduction = nn.ModuleList(
            nn.Linear(i, o) for i, o in zip(inputs, shape.widths, strict=True)
        )
        self.attention_hidden = nn.Linear(shape.widths[-1], shape.attention_hidden)
        self.attention_score = nn.Linear(shape.attention_hidden, shape.num_classes)
        self.classifier_hidden = ClassLinear(
            shape.num_classes, shape.widths[-1], shape.classifier_hidden
        )
        self.classifier_logit = ClassLinear(shape.num_classes, shape.classifier_hidden, 1)

    def forward(self, cells: Tensor) -> HeadOutput:
        """Classify one bag.

        Args:
            cells: Features of the bag's cells, [N, D], in any order.
        """
        for layer in self.reduction:
            cells = torch.relu(layer(cells))
        scores = self.attention_score(torch.tanh(self.attention_hidden(cells)))
        bag = scores.softmax(dim=0).T @ cells
        return HeadOutput(
            logits=self.classifier_logit(torch.relu(self.classifier_hidden(bag))).squeeze(1),
            scores=scores,
        )


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
            if isinstance(layer, nn.Linear | ClassLinear):
                bound = 1 / math.sqrt(layer.weight.shape[-1])
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)
    return head
