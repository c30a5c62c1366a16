"""Gradients layer by layer: scaled to a share of the weights' length (LARC), or clipped.

All lengths are measured together: on a GPU, a kernel for each weight and step of the formula would
take longer to launch than to run.
"""

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
    chosen = [p for p in parameters if p.grad is not None]
    if not chosen:
        return
    gradients = _gradients(chosen)
    weight_lengths, gradient_lengths = _lengths(chosen), _lengths(gradients)
    usable = (weight_lengths > 0) & (gradient_lengths > 0)
    rates = trust_coefficient * weight_lengths
    rates = rates / (gradient_lengths + weight_decay * weight_lengths + epsilon)
    if weight_decay:
        decays = torch.where(usable, weight_decay, 0.0).unbind()
        for parameter, gradient, decay in zip(chosen, gradients, decays, strict=True):
            gradient.addcmul_(parameter, decay)
    _scale(gradients, torch.where(usable, rates, 1.0))


@torch.no_grad()
def clip_gradients(parameters: Iterable[Tensor], *, max_length: float) -> None:
    """Shorten each gradient that is longer, each for itself.

    Args:
        parameters: Weights; those without a gradient stay.
        max_length: Above 0.

    Source:
        Caron et al. 2021, https://github.com/facebookresearch/dino (``clip_grad``).
    """
    if gradients := _gradients(parameters):
        _scale(gradients, (max_length / (_lengths(gradients) + 1e-6)).clamp(max=1))


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def _lengths(tensors: list[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(tensors))


def _scale(gradients: list[Tensor], rates: Tensor) -> None:
    for gradient, rate in zip(gradients, rates.unbind(), strict=True):
        gradient.mul_(rate)
