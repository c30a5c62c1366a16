"""One head to train, how far it has come, and what becomes of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine.layers import Parameters
from aml_mil.mil.engine.scaling import FeatureScaling
from aml_mil.mil.head import HeadShape, initial_head
from aml_mil.mil.sampling import IntArray, weight_seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Replicate:
    """One head to train.

    Attributes:
        fold: Its fold.
        seed: Its seed.
        store: Which of the resident stores it reads.
        train: Training bags.
        validation: Validation bags.
        scaling: Brings the features to mean 0 and s.d. 1; None leaves them as they are.
        run: Which of the runs that train together it belongs to.
    """

    fold: int
    seed: int
    store: int
    train: IntArray
    validation: IntArray
    scaling: FeatureScaling | None = None
    run: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch of one replicate.

    Attributes:
        run: Its run.
        fold: Its fold.
        seed: Its seed.
        epoch: Counted from 0.
        lr: Learning rate of the epoch.
        train_loss: Mean cross-entropy of the drawn bags while they were trained on, in nats.
        val_loss: Mean cross-entropy of the validation bags after the epoch, in nats.
    """

    run: int
    fold: int
    seed: int
    epoch: int
    lr: float
    train_loss: float
    val_loss: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedHead:
    """A replicate's head at its best epoch.

    Attributes:
        replicate: Whose it is.
        best_epoch: Epoch of the lowest validation loss, the first of several.
        last_epoch: Last epoch trained.
        has_diverged: Whether a loss was not finite in the last epoch, which ended the training.
        parameters: Weights by the names of the head's state dict.
    """

    replicate: Replicate
    best_epoch: int
    last_epoch: int
    has_diverged: bool
    parameters: Parameters


@dataclass(slots=True, kw_only=True, eq=False)
class ReplicateState:
    """How far a replicate has come.

    Attributes:
        parameters: What its optimiser steps, by the names of the head's state dict; as they were
            when the state was made or asked for.
        velocities: Of the same names; likewise.
        best_parameters: Weights of its best epoch.
        best_loss: Lowest validation loss.
        best_epoch: Its epoch; -1 before there is one.
        last_epoch: Last epoch trained; -1 before there is one.
        has_diverged: Whether the last epoch's loss or weights are not finite.
    """

    parameters: Parameters
    velocities: Parameters
    best_parameters: Parameters = field(default_factory=dict)
    best_loss: float = float("inf")
    best_epoch: int = -1
    last_epoch: int = -1
    has_diverged: bool = False

    def is_training(self, config: FitConfig) -> bool:
        """Whether it goes on after its last epoch."""
        is_over = self.last_epoch - self.best_epoch >= config.patience
        return not (is_over or self.has_diverged or self.last_epoch + 1 >= config.epochs)


def initial_state(replicate: Replicate, *, shape: HeadShape) -> ReplicateState:
    """Return the state of a replicate before its first epoch."""
    seed = weight_seed(seed=replicate.seed, fold=replicate.fold)
    parameters = dict(initial_head(shape, seed=seed).state_dict())
    velocities = {name: torch.zeros_like(p) for name, p in parameters.items()}
    return ReplicateState(parameters=parameters, velocities=velocities)


def stack_parameters(
    heads: Sequence[Parameters], *, dtype: torch.dtype, device: torch.device
) -> Parameters:
    """Give the heads' parameters a leading R."""
    return {name: torch.stack([h[name] for h in heads]).to(device, dtype) for name in heads[0]}
