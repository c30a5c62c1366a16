"""Assign images to prototypes so that every prototype gets its share.

Shapes: B images, P prototypes.
"""

import math

import torch
from torch import Tensor

from aml_mil.ranks import gather_rows, num_ranks
from aml_mil.ssl.ntxent import at_least_float32


@torch.no_grad()
def sinkhorn(scores: Tensor, *, epsilon: float, num_iterations: int) -> Tensor:
    """Balance soft assignments by alternately normalising prototypes and images.

    Works on logarithms: ``exp(scores / epsilon)`` itself overflows half precision at 0.05. With
    several processes a prototype's share is counted over all of them.

    Args:
        scores: Cosines between images and prototypes, [B, P].
        epsilon: Entropy of the assignment; smaller is closer to one prototype an image. Above 0.
        num_iterations: Of both normalisations; 1 or more.

    Returns:
        [B, P]; rows sum to 1, and columns to B / P the closer, the more iterations. 1 / P
        everywhere if all scores are equal.

    Raises:
        ValueError: ``epsilon`` or ``num_iterations`` is not positive.

    Source:
        Caron et al. 2020, eq. 3-5 and listing in the appendix, https://arxiv.org/abs/2006.09882
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon: expected a positive number, got {epsilon}")
    if num_iterations < 1:
        raise ValueError(f"num_iterations: expected 1 or more, got {num_iterations}")
    with torch.autocast(scores.device.type, enabled=False):
        logs = at_least_float32(scores) / epsilon
        num_images, num_prototypes = len(logs) * num_ranks(), logs.shape[1]
        for _ in range(num_iterations):
            of_prototypes = gather_rows(logs.logsumexp(0, keepdim=True)).logsumexp(0)  # [P]
            logs = logs - of_prototypes - math.log(num_prototypes)
            logs = logs - logs.logsumexp(1, keepdim=True) - math.log(num_images)
        return (logs + math.log(num_images)).exp()
