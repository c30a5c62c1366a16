"""Signs that features have collapsed: measured each epoch, said as warnings, never an error.

Shapes: B images, D features, K outputs or prototypes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

LOSS_MARGIN = 0.01
MIN_RANK = 5.0
MIN_SPREAD = 0.1
MIN_PERPLEXITY = 5.0
MAX_KNN_LOSS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What one epoch's features look like.

    Attributes:
        loss: Mean over the epoch, in nats.
        chance_loss: Loss of a network that tells nothing apart: ln K or ln(2B - 1).
        rankme: Effective number of dimensions of the encoder's features, 1 to D.
        spread: Per-dimension s.d. of the projections on the sphere, 1 for a uniform one, 0 for a
            point; None without projections.
        perplexity: Effective number of prototypes or outputs in use; None for methods without.
        knn_accuracy: Of cell types, patients kept apart; None without annotated cells.
    """

    loss: float
    chance_loss: float
    rankme: float
    spread: float | None = None
    perplexity: float | None = None
    knn_accuracy: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One sign of failure.

    Attributes:
        kind: ``loss``, ``rank``, ``spread``, ``perplexity`` or ``knn``.
        epoch: Epochs done when it was seen.
        message: What was measured, and what to try.
    """

    kind: str
    epoch: int
    message: str


def rankme(features: Tensor) -> float:
    """Count the dimensions in use: the exponential of the entropy of the singular values.

    Args:
        features: [B, D].

    Returns:
        1 if all rows are multiples of one, up to min(B, D) if all directions are alike.

    Source:
        Garrido et al. 2023, eq. 1, https://arxiv.org/abs/2210.02885
    """
    singular = torch.linalg.svdvals(features.detach().cpu().double())
    shares = singular / singular.sum().clamp(min=torch.finfo(torch.float64).tiny)
    return float(perplexity(shares))


def spread_on_sphere(projections: Tensor) -> float:
    """Measure how far directions are spread: mean per-dimension s.d., times the root of D.

    Args:
        projections: [B, D], of any length but 0.

    Returns:
        0 if all point one way; about 1 if spread evenly over the sphere.

    Source:
        Chen and He 2021, figure 2, https://arxiv.org/abs/2011.10566
    """
    unit = normalize(projections.detach().float(), dim=1)
    return float(unit.std(0, correction=0).mean() * unit.shape[1] ** 0.5)


def perplexity(shares: Tensor) -> Tensor:
    """Compute the effective number of outcomes of shares, [K], that sum to 1: from 1 to K."""
    entropy: Tensor = torch.special.entr(shares).sum()
    return entropy.exp()


def find_alarms(
    health: Health, *, start: Health, epoch: int, is_early: bool = False
) -> tuple[Alarm, ...]:
    """Judge an epoch.

    Args:
        health: Measured after the epoch.
        start: Measured before the first.
        epoch: Epochs done.
        is_early: Warming up or frozen, so that the loss may still be that of chance.

    Returns:
        An alarm for each sign; none for a healthy epoch.
    """
    found: list[tuple[str, str]] = []
    if not is_early and not health.loss < (1 - LOSS_MARGIN) * health.chance_loss:
        found.append(
            (
                "loss",
                f"the loss {health.loss:.3f} stays at {health.chance_loss:.3f}, that of a network "
                "that tells nothing apart; try a lower learning rate or another temperature (swav: "
                "a longer freeze, the queue, or another epsilon)",
            )
        )
    if health.rankme < min(MIN_RANK, start.rankme / 2):
        found.append(
            (
                "rank",
                f"features use {health.rankme:.1f} dimensions (RankMe), {start.rankme:.1f} before "
                "training; try a lower learning rate or a larger batch",
            )
        )
    if health.spread is not None and health.spread < MIN_SPREAD:
        found.append(
            (
                "spread",
                f"all projections point the same way (spread {health.spread:.3f} of 1); "
                "try a lower learning rate or a lower temperature",
            )
        )
    if health.perplexity is not None and health.perplexity < MIN_PERPLEXITY:
        found.append(
            (
                "perplexity",
                f"only {health.perplexity:.1f} prototypes or outputs are in use; try a smaller "
                "epsilon or more iterations (swav), or a slower centre and a higher teacher "
                "temperature (dino)",
            )
        )
    found.extend(_judge_knn(health, start))
    return tuple(Alarm(kind=kind, epoch=epoch, message=message) for kind, message in found)


def _judge_knn(health: Health, start: Health) -> list[tuple[str, str]]:
    if health.knn_accuracy is None or start.knn_accuracy is None:
        return []
    if health.knn_accuracy >= start.knn_accuracy - MAX_KNN_LOSS:
        return []
    return [
        (
            "knn",
            f"neighbours name {health.knn_accuracy:.2f} of the cell types, "
            f"{start.knn_accuracy:.2f} before training; look at the views with --preview: "
            "they may hide what makes a cell",
        )
    ]
