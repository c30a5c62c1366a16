"""Train every replicate of a run at once, each exactly as if it were alone.

Shapes: R replicates still training, S bags of a step.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml_mil.mil.config import FitConfig
from aml_mil.mil.engine.half import SMALLEST_SD
from aml_mil.mil.engine.inference import Evaluation
from aml_mil.mil.engine.layers import Parameters, padded
from aml_mil.mil.engine.network import StackedHeads
from aml_mil.mil.engine.optimiser import StackedSGD, cosine_lr
from aml_mil.mil.engine.packing import Packed, pack
from aml_mil.mil.engine.replicate import (
    EpochRecord,
    Replicate,
    ReplicateState,
    TrainedHead,
    initial_state,
    stack_parameters,
)
from aml_mil.mil.engine.resident import BagRows, ResidentBags
from aml_mil.mil.engine.scaling import StackedScaling
from aml_mil.mil.engine.workspace import Workspace
from aml_mil.mil.errors import DivergedError
from aml_mil.mil.head import HeadShape
from aml_mil.mil.sampling import CellDropout, draw_epoch
from aml_mil.runtime import upload


class Training:
    """Train the replicates epoch by epoch, in step with each other.

    A replicate with a loss or weights that are not finite ends its training and keeps its best
    epoch, as one whose patience is over; both leave the stack.

    Args:
        replicates: The heads to train.
        bags: Their bags.
        shape: What the heads are made of.
        config: Settings.
        states: How far each has come, to go on from there; None to begin.
    """

    def __init__(
        self,
        replicates: Sequence[Replicate],
        bags: ResidentBags,
        *,
        shape: HeadShape,
        config: FitConfig,
        states: Sequence[ReplicateState] | None = None,
    ) -> None:
        self._replicates, self._bags = replicates, bags
        self._shape, self._config = shape, config
        self._device = bags.table.device
        self._dtype = torch.float64 if bags.table.dtype == torch.float64 else torch.float32
        self._workspace = Workspace(self._device)
        self._states = states or [initial_state(r, shape=shape) for r in replicates]
        self.epoch = max(s.last_epoch for s in self._states) + 1
        self._training = [r for r, s in enumerate(self._states) if s.is_training(config)]
        if self._training:
            self._stack()

    @property
    def is_running(self) -> bool:
        """Whether a replicate still trains."""
        return bool(self._training)

    @property
    def heads(self) -> list[TrainedHead]:
        """The heads at their best epochs, in the order of the replicates."""
        return [
            TrainedHead(
                replicate=r,
                best_epoch=s.best_epoch,
                last_epoch=s.last_epoch,
                has_diverged=s.has_diverged,
                parameters=s.best_parameters,
            )
            for r, s in zip(self._replicates, self._states, strict=True)
        ]

    def states(self) -> list[ReplicateState]:
        """Return how far each replicate has come, to go on from there."""
        for place, r in enumerate(self._training):
            self._states[r].parameters = _of_replicate(self._stepped, place)
            self._states[r].velocities = _of_replicate(self._sgd.velocities, place)
        return list(self._states)

    def run_epoch(self) -> list[EpochRecord]:
        """Train and validate the replicates that still train; let go of those that are done.

        Returns:
            One record per replicate that trained, in the order of the replicates.

        Raises:
            DivergedError: A loss is not finite before there is a best epoch.
        """
        lr = cosine_lr(self._config.lr, epoch=self.epoch, epochs=self._config.epochs)
        train_losses = self._train(lr=lr)
        val_losses = self._validation.mean_losses(self._heads)
        records = [
            EpochRecord(
                run=self._replicates[r].run,
                fold=self._replicates[r].fold,
                seed=self._replicates[r].seed,
                epoch=self.epoch,
                lr=lr,
                train_loss=float(train_loss),
                val_loss=float(val_loss),
            )
            for r, train_loss, val_loss in zip(
                self._training, train_losses, val_losses, strict=True
            )
        ]
        self._note_best(records)
        self._let_go()
        self.epoch += 1
        return records

    def _stack(self) -> None:
        """Stack the states of the replicates that train."""
        chosen = [self._states[r] for r in self._training]
        replicates = [self._replicates[r] for r in self._training]
        # What the optimiser steps, and, with the scaling folded in, what the heads compute with.
        self._stepped = self._stack_parameters([s.parameters for s in chosen])
        velocities = self._stack_parameters([s.velocities for s in chosen])
        self._sgd = StackedSGD(self._stepped, velocities, momentum=self._config.momentum)
        self._scaling = self._stack_scalings(replicates)
        self._parameters = self._fold()
        self._heads = self._stack_heads()
        self._validation = Evaluation(
            [self._bags.whole(r.validation, store=r.store) for r in replicates],
            device=self._device,
        )

    def _stack_parameters(self, heads: Sequence[Parameters]) -> Parameters:
        return stack_parameters(heads, dtype=self._dtype, device=self._device)

    def _stack_scalings(self, replicates: Sequence[Replicate]) -> StackedScaling | None:
        scalings = [r.scaling for r in replicates if r.scaling is not None]
        if not scalings:
            return None
        assert len(scalings) == len(replicates)
        return StackedScaling(
            scalings,
            num_taps_dims=len(self._shape.map_size),
            smallest_sd=SMALLEST_SD if self._bags.table.dtype == torch.float16 else 0.0,
            dtype=self._dtype,
            device=self._device,
        )

    def _stack_heads(self) -> StackedHeads:
        return StackedHeads(
            self._parameters,
            shape=self._shape,
            table=self._bags.table,
            workspace=self._workspace,
        )

    def _train(self, *, lr: float) -> npt.NDArray[np.float64]:
        replicates = [self._replicates[r] for r in self._training]
        draws = [self._draw(r) for r in replicates]
        dropouts = [
            CellDropout(self._config.dropout, seed=r.seed, fold=r.fold, epoch=self.epoch)
            for r in replicates
            if self._config.dropout
        ]
        counts = np.array([len(d.sizes) for d in draws])
        losses = torch.zeros(len(draws), dtype=torch.float64, device=self._device)
        for first in range(0, int(counts.max()), self._config.accumulate):
            taken = [d.take(first, first + self._config.accumulate) for d in draws]
            packed = pack(taken, device=self._device)
            with torch.no_grad():
                step = self._heads.step(packed, dropout=self._draw_dropout(dropouts, packed))
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

    def _draw_dropout(self, dropouts: Sequence[CellDropout], packed: Packed) -> Tensor | None:
        """Return what the reduced features are multiplied by, [R, M, K']; None for nothing."""
        if not dropouts:
            return None
        width = self._shape.widths[-1]
        factors = np.ones((*packed.rows.shape, padded(width)), np.float32)
        for r, (dropout, count) in enumerate(zip(dropouts, packed.num_cells, strict=True)):
            factors[r, :count, :width] = dropout.factors(count, width)
        return upload(factors, self._device).to(self._bags.table.dtype)

    def _draw(self, replicate: Replicate) -> BagRows:
        draw = draw_epoch(
            train=replicate.train,
            targets=self._bags.targets,
            bag_sizes=self._bags.sizes,
            num_views=self._bags.num_views,
            one_view_a_bag=self._bags.one_view_a_bag,
            max_cells=self._config.max_cells,
            sampling=self._config.sampling,
            seed=replicate.seed,
            fold=replicate.fold,
            epoch=self.epoch,
        )
        return self._bags.drawn(draw, store=replicate.store)

    def _note_best(self, records: Sequence[EpochRecord]) -> None:
        is_finite = self._have_finite_weights()
        improved = []
        for place, (r, record) in enumerate(zip(self._training, records, strict=True)):
            state = self._states[r]
            state.last_epoch = record.epoch
            state.has_diverged = not (is_finite[place] and _is_finite(record))
            if state.has_diverged and state.best_epoch < 0:
                weights = "finite" if is_finite[place] else "infinite"
                raise DivergedError(
                    f"expected finite losses and weights, got training {record.train_loss}, "
                    f"validation {record.val_loss}, {weights} weights in epoch {record.epoch} of "
                    f"fold {record.fold}, seed {record.seed}; lower the learning rate, or "
                    "standardize the features"
                )
            if record.val_loss < state.best_loss and not state.has_diverged:
                state.best_loss, state.best_epoch = record.val_loss, record.epoch
                improved.append((place, state))
        if improved:
            on_host = {name: values.cpu() for name, values in self._parameters.items()}
            for place, state in improved:
                state.best_parameters = _of_replicate(on_host, place)

    def _have_finite_weights(self) -> npt.NDArray[np.bool_]:
        """Whether the products' operands of each replicate are finite, [R].

        A ReLU of 16 bits can hide the NaN that an infinite one leaves.
        """
        largest = torch.stack([p.abs().flatten(1).amax(dim=1) for p in self._parameters.values()])
        are_finite = largest.amax(dim=0) <= torch.finfo(self._bags.table.dtype).max
        result: npt.NDArray[np.bool_] = are_finite.cpu().numpy()
        return result

    def _let_go(self) -> None:
        staying = [
            place
            for place, r in enumerate(self._training)
            if self._states[r].is_training(self._config)
        ]
        if len(staying) == len(self._training):
            return
        for r in set(self._training) - {self._training[place] for place in staying}:
            self._states[r].parameters, self._states[r].velocities = {}, {}
        self._training = [self._training[place] for place in staying]
        if staying:
            self._stepped = self._sgd.keep(staying)
            if self._scaling is not None:
                self._scaling.keep(staying)
            self._parameters = self._fold()
            self._heads = self._stack_heads()
            self._validation = self._validation.keep(staying)


def _of_replicate(stacked: Mapping[str, Tensor], place: int) -> Parameters:
    return {name: values[place].detach().cpu().clone() for name, values in stacked.items()}


def _is_finite(record: EpochRecord) -> bool:
    return bool(np.isfinite([record.train_loss, record.val_loss]).all())
