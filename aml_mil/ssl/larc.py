"""Layer-wise adaptive rates: every layer moves by the same share of its own length."""

from collections.abc import Iterable

import torch
from torch import Tensor


@torch.no_grad()
def scale_gradients(
    parameters: Iterable[Tensor],
    *,
    trust_coefficient: float,
    weight_decay: float = 0.0,
    epsilon: float = 1e-8,
) -> None:
    """Scale each gradient to ``trust_coefficient`` times the length of its weights.

    To be called between the backward pass and the optimiser's step. For SGD the decay belongs into
    the scaled gradient, and the optimiser's own must be 0; AdamW decays apart from the gradient and
    keeps its own. Give Adam's weights only: biases start at zero, where the gradient is left as it
    is, and Adam would measure all later, scaled ones by these first.

    Args:
        parameters: Weights; those without a gradient, or with weights or gradient zero, stay.
        trust_coefficient: Dimensionless, above 0.
        weight_decay: Added to the gradient before scaling.
        epsilon: Against division by zero.

    Source:
        You et al. 2017, eq. 6, https://arxiv.org/abs/1708.03888; as in NVIDIA apex without
        clipping.
    """
    for parameter in parameters:
        if parameter.grad is None:
            continue
        weight_length = torch.linalg.vector_norm(parameter)
        gradient_length = torch.linalg.vector_norm(parameter.grad)
        rate = (
            trust_coefficient
            * weight_length
            / (gradient_length + weight_decay * weight_length + epsilon)
        )
        usable = (weight_length > 0) & (gradient_length > 0)
        decayed = parameter.grad + weight_decay * parameter
        parameter.grad.copy_(torch.where(usable, rate * decayed, parameter.grad))
