"""SimCLR's loss: each view must find the other view of its image among all views of the batch.

Shapes: B images of this process, N images of all processes, D dimensions.
"""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from aml_mil.ranks import gather_rows, num_ranks, rank


def nt_xent_loss(first_views: Tensor, second_views: Tensor, *, temperature: float) -> Tensor:
    """Contrast the two views of each image with the views of every other image.

    With several processes the negatives come from all of them; the average of the processes'
    losses is the loss of one process that holds the whole batch.

    Args:
        first_views: Projections of the first view, [B, D], of any length but 0.
        second_views: Projections of the second view, in the same row order.
        temperature: Divides the cosine; smaller is sharper. Dimensionless, above 0.

    Returns:
        Mean cross-entropy over the 2B views, in nats, at least in float32; log(2N - 1) if all views
        coincide.

    Raises:
        ValueError: ``temperature`` is not positive, or N < 2 leaves no negatives.

    Source:
        Chen et al. 2020, eq. 1, https://arxiv.org/abs/2002.05709
    """
    num_images = len(first_views) * num_ranks()
    if not temperature > 0:
        raise ValueError(f"temperature: expected a positive number, got {temperature}")
    if num_images < 2:
        raise ValueError(f"expected 2 images or more to contrast, got {num_images}")
    with torch.autocast(first_views.device.type, enabled=False):
        own = normalize(at_least_float32(torch.stack([first_views, second_views])), dim=-1)
        rows = own.flatten(0, 1)  # [2B, D]: all first views, then all second views
        others = gather_rows(own.transpose(0, 1)).transpose(0, 1).flatten(0, 1)  # [2N, D]
        logits = rows @ others.T / temperature  # [2B, 2N]
        index = torch.arange(len(first_views), device=rows.device)
        index = index + rank() * len(first_views)  # of this process's images among all
        itself = torch.cat([index, index + num_images])
        partner = torch.cat([index + num_images, index])
        logits = logits.scatter(1, itself[:, None], -torch.inf)
        return cross_entropy(logits, partner)


def at_least_float32(values: Tensor) -> Tensor:
    """Widen half precision, in which exponentials of scores overflow; float64 stays."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
