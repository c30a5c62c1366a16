"""Train every replicate of a run at once, each exactly as if it were alone.

Shapes: R replicates still training, S bags of a step.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine.inference import Evaluation
from aml_mil.mil.engine.network import Parameters, StackedHeads
from aml_mil.mil.engine.optimiser import StackedSGD, cosine_lr
from aml_mil.mil.engine.packing import pack
from aml_mil.mil.engine.resident import BagRows, ResidentBags
from aml_mil.mil.engine.scaling import FeatureScaling, StackedScaling
from aml_mil.mil.engine.workspace import Workspace
from aml_mil.mil.errors import DivergedError
from aml_mil.mil.head import HeadShape, initial_head
from aml_mil.mil.sampling import IntArray, draw_epoch, weight_seed


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
    """

    fold: int
    seed: int
    store: int
    train: IntArray
    validation: IntArray
    scaling: FeatureScaling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch of one replicate.

    Attributes:
        fold: Its fold.
        seed: Its seed.
        epoch: Counted from 0.
        lr: Learning rate of the epoch.
        train_loss: Mean cross-entropy of the drawn bags while they were trained on, in nats.
        val_loss: Mean cross-entropy of the validation bags after the epoch, in nats.
    """

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


def train_heads(
    replicates: Sequence[Replicate], bags: ResidentBags, *, shape: HeadShape, config: FitConfig
) -> Generator[EpochRecord, None, list[TrainedHead]]:
    """Train the replicates epoch by epoch, in step with each other.

    A replicate with a loss that is not finite ends its training and keeps its best epoch, as one
    whose patience is over.

    Yields:
        One record per replicate that trained in the epoch, in the order of the replicates.

    Returns:
        The heads, in the order of the replicates.

    Raises:
        DivergedError: A loss is not finite before there is a best epoch.
    """
    stack = _Stack(replicates, bags, shape=shape, config=config)
    for epoch in range(config.epochs):
        yield from stack.run_epoch(epoch)
        if not stack.training:
            break
    return [
        TrainedHead(
            replicate=r.replicate,
            best_epoch=r.best_epoch,
            last_epoch=r.last_epoch,
            has_diverged=r.has_diverged,
            parameters=r.best_parameters,
        )
        for r in stack.everyone
    ]


def initial_parameters(
    replicates: Sequence[Replicate], *, shape: HeadShape, dtype: torch.dtype, device: torch.device
) -> Parameters:
    """Stack the initial weights of the replicates."""
    heads = [
        initial_head(shape, seed=weight_seed(seed=r.seed, fold=r.fold)).state_dict()
        for r in replicates
    ]
    return stack_parameters(heads, dtype=dtype, device=device)


def stack_parameters(
    heads: Sequence[Parameters], *, dtype: torch.dtype, device: torch.device
) -> Parameters:
    """Give the heads' parameters a leading R."""
    return {name: torch.stack([h[name] for h in heads]).to(device, dtype) for name in heads[0]}


@dataclass(slots=True, kw_only=True, eq=False)
class _Progress:
    """How far a replicate has come."""

    replicate: Replicate
    best_loss: float = float("inf")
    best_epoch: int = -1
    last_epoch: int = -1
    has_diverged: bool = False
    best_parameters: Parameters = field(default_factory=dict)


class _Stack:
    """The replicates that still train, and the best weights of all."""

    def __init__(
        self,
        replicates: Sequence[Replicate],
        bags: ResidentBags,
        *,
        shape: HeadShape,
        config: FitConfig,
    ) -> None:
        self._bags, self._config = bags, config
        self._device = bags.table.device
        dtype = torch.float64 if bags.table.dtype == torch.float64 else torch.float32
        # What the optimiser steps, and, with the scaling folded in, what the heads compute with.
        self._stepped = initial_parameters(
            replicates, shape=shape, dtype=dtype, device=self._device
        )
        self._scaling = stack_scalings(replicates, dtype=dtype, device=self._device)
        self._parameters = self._fold()
        self._sgd = StackedSGD(self._stepped, momentum=config.momentum)
        self._workspace = Workspace(self._device)
        self._heads = self._stack_heads()
        self._validation = Evaluation(
            [bags.whole(r.validation, store=r.store) for r in replicates], device=self._device
        )
        self.everyone = [_Progress(replicate=r) for r in replicates]
        self.training = list(self.everyone)

    def run_epoch(self, epoch: int) -> list[EpochRecord]:
        """Train and validate; let go of the replicates whose patience is over."""
        lr = cosine_lr(self._config.lr, epoch=epoch, epochs=self._config.epochs)
        train_losses = self._train(epoch, lr=lr)
        val_losses = self._validation.mean_losses(self._heads)
        records = [
            EpochRecord(
                fold=p.replicate.fold,
                seed=p.replicate.seed,
                epoch=epoch,
                lr=lr,
                train_loss=float(train_loss),
                val_loss=float(val_loss),
            )
            for p, train_loss, val_loss in zip(self.training, train_losses, val_losses, strict=True)
        ]
        self._note_best(records)
        self._let_go(epoch)
        return records

    def _stack_heads(self) -> StackedHeads:
        return StackedHeads(self._parameters, table=self._bags.table, workspace=self._workspace)

    def _train(self, epoch: int, *, lr: float) -> npt.NDArray[np.float64]:
        draws = [self._draw(p.replicate, epoch) for p in self.training]
        counts = np.array([len(d.sizes) for d in draws])
        losses = torch.zeros(len(draws), dtype=torch.float64, device=self._device)
        for first in range(0, int(counts.max()), self._config.accumulate):
            taken = [d.take(first, first + self._config.accumulate) for d in draws]
            packed = pack(taken, device=self._device)
            with torch.no_grad():
                step = self._heads.step(packed)
                stepping = np.array([len(t.sizes) > 0 for t in taken])
                self._step(step.gradients, lr=lr, stepping=stepping)
            losses += step.losses.double().sum(dim=1)
        result: npt.NDArray[np.float64] = losses.cpu().numpy() / counts
        return result

    def _step(self, gradients: Parameters, *, lr: float, stepping: npt.NDArray[np.bool_]) -> None:
        if self._scaling is None:
            self._sgd.step(gradients, lr=lr, stepping=stepping)
        else:
            self._sgd.step(self._scaling.unfold_gradients(gradients), lr=lr, stepping=stepping)
            self._scaling.fold_into(self._parameters, self._stepped)
        self._heads.refresh()

    def _fold(self) -> Parameters:
        return self._stepped if self._scaling is None else self._scaling.fold(self._stepped)

    def _draw(self, replicate: Replicate, epoch: int) -> BagRows:
        draw = draw_epoch(
            train=replicate.train,
            targets=self._bags.targets,
            bag_sizes=self._bags.sizes,
            num_views=self._bags.num_views,
            max_cells=self._config.max_cells,
            seed=replicate.seed,
            fold=replicate.fold,
            epoch=epoch,
        )
        return self._bags.drawn(draw, store=replicate.store)

    def _note_best(self, records: Sequence[EpochRecord]) -> None:
        for r, (progress, record) in enumerate(zip(self.training, records, strict=True)):
            progress.last_epoch = record.epoch
            progress.has_diverged = not _is_finite(record)
            if progress.has_diverged and progress.best_epoch < 0:
                raise DivergedError(
                    f"expected finite losses, got training {record.train_loss}, validation "
                    f"{record.val_loss} in epoch {record.epoch} of fold {record.fold}, seed "
                    f"{record.seed}; lower the learning rate, or standardize the features"
                )
            if record.val_loss < progress.best_loss:
                progress.best_loss, progress.best_epoch = record.val_loss, record.epoch
                progress.best_parameters = {
                    n: p[r].detach().cpu().clone() for n, p in self._parameters.items()
                }

    def _let_go(self, epoch: int) -> None:
        patience = self._config.patience
        staying = [
            r
            for r, p in enumerate(self.training)
            if epoch - p.best_epoch < patience and not p.has_diverged
        ]
        if len(staying) < len(self.training):
            self.training = [self.training[r] for r in staying]
            if staying:
                self._stepped = self._sgd.keep(staying)
                if self._scaling is not None:
                    self._scaling.keep(staying)
                self._parameters = self._fold()
                self._heads = self._stack_heads()
                self._validation = self._validation.keep(staying)


def stack_scalings(
    replicates: Sequence[Replicate], *, dtype: torch.dtype, device: torch.device
) -> StackedScaling | None:
    """Stack the scalings of the replicates; None where they have none."""
    scalings = [r.scaling for r in replicates if r.scaling is not None]
    if not scalings:
        return None
    assert len(scalings) == len(replicates)
    return StackedScaling(scalings, dtype=dtype, device=device)


def _is_finite(record: EpochRecord) -> bool:
    return bool(np.isfinite([record.train_loss, record.val_loss]).all())
