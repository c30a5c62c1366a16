"""One SGD step for all replicates."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml_mil.runtime import upload


class StackedSGD:
    """Step all replicates by SGD with Nesterov momentum, as torch.optim.SGD steps one.

    Args:
        parameters: Stacked parameters, each [R, …]; changed in place.
        velocities: Of the same names, changed in place; zero if not given.
        momentum: Share of the velocity that is kept.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        velocities: Mapping[str, Tensor] | None = None,
        *,
        momentum: float,
    ) -> None:
        self._parameters = dict(parameters)
        self._velocities = dict(
            velocities or {n: torch.zeros_like(p) for n, p in parameters.items()}
        )
        self._momentum = momentum

    def step(
        self, gradients: Mapping[str, Tensor], *, lr: float, stepping: npt.NDArray[np.bool_]
    ) -> None:
        """Step the replicates that had bags.

        Args:
            gradients: By name, as the parameters.
            lr: Learning rate.
            stepping: Which replicates step, [R]; the others keep weights and velocity.
        """
        names = list(self._parameters)
        if stepping.all():
            self._update(self._parameters, self._velocities, gradients, lr)
            return
        rows = upload(np.flatnonzero(stepping), self._parameters[names[0]].device)
        parameters = {n: self._parameters[n][rows] for n in names}
        velocities = {n: self._velocities[n][rows] for n in names}
        self._update(parameters, velocities, {n: gradients[n][rows] for n in names}, lr)
        for n in names:
            self._parameters[n][rows], self._velocities[n][rows] = parameters[n], velocities[n]

    @property
    def velocities(self) -> Mapping[str, Tensor]:
        """Velocities by name, as they are now."""
        return self._velocities

    def keep(self, replicates: Sequence[int]) -> dict[str, Tensor]:
        """Drop the other replicates from the stack; return the parameters that stay."""
        rows = list(replicates)
        self._velocities = {n: v[rows] for n, v in self._velocities.items()}
        self._parameters = {n: p[rows] for n, p in self._parameters.items()}
        return dict(self._parameters)

    def _update(
        self,
        parameters: Mapping[str, Tensor],
        velocities: Mapping[str, Tensor],
        gradients: Mapping[str, Tensor],
        lr: float,
    ) -> None:
        names = list(parameters)
        torch._fused_sgd_(
            [parameters[n] for n in names],
            [gradients[n].contiguous() for n in names],
            [velocities[n] for n in names if self._momentum],
            weight_decay=0.0,
            momentum=self._momentum,
            lr=lr,
            dampening=0.0,
            nesterov=self._momentum > 0,
            maximize=False,
            is_first_step=False,
        )


def cosine_lr(lr: float, *, epoch: int, epochs: int) -> float:
    """Anneal the learning rate from ``lr`` in epoch 0 towards 0 after the last.

    Source:
        Loshchilov & Hutter 2017, eq. 5 without restarts, https://arxiv.org/abs/1608.03983
    """
    return lr * (1 + math.cos(math.pi * epoch / epochs)) / 2
