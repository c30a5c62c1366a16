"""From bag vectors to losses: the class-wise classifiers, small enough for autograd.

Shapes: R replicates, S bags, C classes, K reduced features.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from aml_mil.mil.engine.packing import Packed

_PREFIX = "classifier"


class ClassifierStep(NamedTuple):
    """Losses of the bags and the gradients of their sum."""

    losses: Tensor
    """[R, S], 0 where there is no bag."""
    grad_bags: Tensor
    """As the bag vectors."""
    gradients: dict[str, Tensor]
    """Of the classifiers' parameters."""


def classify(parameters: Mapping[str, Tensor], bags: Tensor) -> Tensor:
    """Return the logits [R, S, C] of bag vectors [R, S, C, K], or of one for all, [R, S, 1, K]."""
    bags = bags.expand(-1, -1, parameters["classifier_hidden.weight"].shape[1], -1)
    hidden = _class_linear(parameters, "classifier_hidden", bags).relu()
    return _class_linear(parameters, "classifier_logit", hidden).squeeze(3)


def bag_losses(packed: Packed, logits: Tensor) -> Tensor:
    """Return the cross-entropy of each bag in nats, [R, S]; 0 where there is none."""
    losses = cross_entropy(logits.flatten(0, 1), packed.targets.flatten(), reduction="none")
    return losses.view_as(packed.targets).masked_fill(packed.sizes == 0, 0)


def classifier_step(
    parameters: Mapping[str, Tensor], packed: Packed, bags: Tensor
) -> ClassifierStep:
    """Classify bag vectors, as ``classify`` does, and differentiate the sum of the losses."""
    with torch.enable_grad():
        leaves = {
            name: parameter.detach().requires_grad_()
            for name, parameter in parameters.items()
            if name.startswith(_PREFIX)
        }
        bags = bags.detach().requires_grad_()
        losses = bag_losses(packed, classify(leaves, bags))
        grad_bags, *grads = torch.autograd.grad(losses.sum(), [bags, *leaves.values()])
    return ClassifierStep(losses.detach(), grad_bags, dict(zip(leaves, grads, strict=True)))


def _class_linear(parameters: Mapping[str, Tensor], name: str, vectors: Tensor) -> Tensor:
    product = torch.einsum("rsck,rcok->rsco", vectors, parameters[f"{name}.weight"])
    return product + parameters[f"{name}.bias"].unsqueeze(1)
