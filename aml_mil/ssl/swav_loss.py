"""SwAV's loss: predict a view's prototype from the other views of the same image.

Shapes: B images, P prototypes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from aml_mil.ssl.ntxent import at_least_float32
from aml_mil.ssl.sinkhorn import sinkhorn


def swav_loss(
    crop_scores: Sequence[Tensor],
    *,
    num_global: int,
    temperature: float,
    epsilon: float,
    num_iterations: int,
    queue_scores: Sequence[Tensor] | None = None,
) -> Tensor:
    """Swap: each global crop's balanced assignment is predicted from every other crop.

    Args:
        crop_scores: Cosines to the prototypes, [B, P], of each crop, global crops first.
        num_global: How many of them are global, 1 or more.
        temperature: Divides the cosines in the prediction, above 0.
        epsilon: Of the assignment, see `sinkhorn`.
        num_iterations: Of the assignment.
        queue_scores: For each global crop the scores of earlier images, [Q, P], which take part in
            balancing only.

    Returns:
        Mean cross-entropy in nats over images, pairs of crops and processes' own rows; log P if all
        scores are equal.

    Raises:
        ValueError: There are fewer than two crops, or fewer crops than ``num_global``.

    Source:
        Caron et al. 2020, eq. 2 and 6, https://arxiv.org/abs/2006.09882
    """
    if not 1 <= num_global <= len(crop_scores) or len(crop_scores) < 2:
        message = f"expected 2 crops or more, {num_global} of them global, got {len(crop_scores)}"
        raise ValueError(message)
    with torch.autocast(crop_scores[0].device.type, enabled=False):
        predictions = [log_softmax(at_least_float32(s) / temperature, 1) for s in crop_scores]
        terms: list[Tensor] = []
        for crop in range(num_global):
            known = crop_scores[crop].detach()
            if queue_scores is not None:
                known = torch.cat([queue_scores[crop].to(known.dtype), known])
            assignments = sinkhorn(known, epsilon=epsilon, num_iterations=num_iterations)
            target = assignments[-len(crop_scores[crop]) :]
            terms.extend(
                -(target * prediction).sum(1).mean()
                for other, prediction in enumerate(predictions)
                if other != crop
            )
        return torch.stack(terms).mean()
