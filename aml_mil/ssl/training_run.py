"""A run of steps and epochs: what is measured after them, and how it stops and goes on.

What is trained, on which batches, and what is saved of it, is for those who build on it:
`PretrainRun` for images, `GigaRun` for patients.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch

from aml_mil.ranks import any_rank, rank
from aml_mil.ssl.collapse import Alarm, Health, find_alarms, perplexity, spread_on_sphere
from aml_mil.ssl.history import EpochRecord, plot_history, record_epoch, write_history
from aml_mil.ssl.method import RunLength, StepOutput, StepValues
from aml_mil.ssl.optimiser import LayerwiseOptimiser
from aml_mil.ssl.run_files import RunIdentity, load_run, refuse_existing
from aml_mil.ssl.state import RunPaths, RunState, write_state
from aml_mil.ssl.tally import EpochTally

EARLY_SHARE = 0.2
PLOT_EVERY_S = 60.0  # Drawing takes as long as an epoch of a small cohort.

Batch = TypeVar("Batch")


class Learner(Protocol):
    """What is trained: a module that knows its schedules."""

    @property
    def chance_loss(self) -> float:
        """Loss of a network that tells nothing apart, in nats."""

    def values_at(self, step: int) -> StepValues:
        """Learning rate and weight decay of a step."""

    def state_dict(self) -> dict[str, Any]:
        """All its state."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> object:
        """Take back what `state_dict` returned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingProgress:
    """How far a run is.

    Attributes:
        examples_done: Images or patients seen since the run began, one counted once an epoch.
        examples_total: Of the whole run.
        epoch: What was measured, where something was; before the first step, too.
        alarms: Seen for the first time.
        is_stopped: Asked to stop: the state is saved, the run is not done.
    """

    examples_done: int
    examples_total: int
    epoch: EpochRecord | None = None
    alarms: tuple[Alarm, ...] = ()
    is_stopped: bool = False


class TrainingRun(ABC, Generic[Batch]):
    """One run, ready to begin or to go on.

    Args:
        out: Where the encoder goes; state, history and picture lie beside it.
        identity: What makes it this run.
        length: In epochs and steps.
        batch_size: Examples of a step over all processes.
        device: Of this process.
        is_resumed: Go on from the saved state.

    Attributes:
        records: Measurements so far, the first before training.
        alarms: Seen so far.
        steps_done: Since the run began.

    Raises:
        ResumeError: The files of another run are there, or there is nothing to resume.
    """

    def __init__(
        self,
        out: Path,
        identity: RunIdentity,
        length: RunLength,
        *,
        batch_size: int,
        device: torch.device,
        is_resumed: bool,
    ) -> None:
        self.paths = RunPaths(encoder=out)
        self.identity = identity
        self.length = length
        self.batch_size = batch_size
        self.device = device
        self._saved = load_run(self.paths, identity) if is_resumed else None
        if self._saved is None and rank() == 0:
            refuse_existing(self.paths)
        self.tally = EpochTally()
        self.records: list[EpochRecord] = []
        self.alarms: list[Alarm] = []
        self.start: Health | None = None
        self.steps_done = 0
        self._plotted = time.monotonic()

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is over."""
        return self.steps_done == self.length.num_steps

    @property
    @abstractmethod
    def learner(self) -> Learner:
        """What is trained."""

    @property
    @abstractmethod
    def optimiser(self) -> LayerwiseOptimiser:
        """What moves its weights."""

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """What keeps fp16 gradients representable."""
        return None

    @property
    @abstractmethod
    def title(self) -> str:
        """Of the picture."""

    @abstractmethod
    def batches(self) -> Iterator[Batch]:
        """Draw this process's share of every step that is left."""

    @abstractmethod
    def step(self, batch: Batch) -> StepOutput:
        """Train on one batch."""

    @abstractmethod
    def look(self) -> tuple[float, float | None]:
        """Measure RankMe and the kNN accuracy of the features, in the first process."""

    @abstractmethod
    def write_encoder(self, *, epochs_done: int) -> None:
        """Save what others use."""

    def is_due(self) -> bool:
        """Whether to measure after the step just made."""
        return self.steps_done % self.length.steps_per_epoch == 0

    def measuring(self) -> AbstractContextManager[object]:
        """Prepare for measuring and saving the encoder."""
        return nullcontext()

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[TrainingProgress]:
        """Train to the end, or until asked to stop.

        Args:
            should_stop: Asked after every step; the state is then saved and the run ends.

        Yields:
            A record for every step, and for the measurements before the first.

        Raises:
            DivergedError: The loss is not a number; the state last measured is kept.
            OSError: The disk is full; the state before is kept.
        """
        if self.start is None:
            yield self._begin()
        began = time.monotonic()
        for batch in self.batches():
            lr = self.learner.values_at(self.steps_done).lr
            self.tally.add(self.step(batch))
            self.steps_done += 1
            self.tally.seconds += time.monotonic() - began
            yield self._measure(lr=lr) if self.is_due() else self._progress()
            if not self.is_done and any_rank(should_stop(), device=self.device):
                self.save()
                yield self._progress(is_stopped=True)
                return
            began = time.monotonic()

    def save(self) -> None:
        """Save the state; the first process does it for all."""
        if self.tally.losses:
            self.tally.mean_loss()  # what is not a number must not replace the last good state
        if rank() > 0:
            return
        document: dict[str, Any] = {
            "identity": asdict(self.identity),
            "steps_done": self.steps_done,
            "start": asdict(self.start) if self.start else None,
            "records": [asdict(record) for record in self.records],
            "alarms": [asdict(alarm) for alarm in self.alarms],
        }
        if self.scaler is not None:
            document["scaler"] = self.scaler.state_dict()
        state = RunState(
            document=document,
            method=self.learner.state_dict(),
            optimiser=self.optimiser.tensors(),
            tally=self.tally.tensors(),
        )
        write_state(self.paths.state, state)

    def _go_on(self) -> None:
        """Take back the saved state of a run that is resumed."""
        if self._saved is None:
            return
        saved, self._saved = self._saved, None
        document: dict[str, Any] = dict(saved.document)
        self.learner.load_state_dict(dict(saved.method))
        self.optimiser.load_tensors(dict(saved.optimiser))
        self.tally.load_tensors(saved.tally, device=self.device)
        self.steps_done = document["steps_done"]
        self.start = Health(**document["start"])
        self.records = [EpochRecord(**record) for record in document["records"]]
        self.alarms = [Alarm(**alarm) for alarm in document["alarms"]]
        # Empty where the run was begun without, in bf16 on a CPU for instance.
        if self.scaler is not None and document["scaler"]:
            self.scaler.load_state_dict(document["scaler"])

    def _begin(self) -> TrainingProgress:
        with self.measuring():
            self.start = self._health(math.inf)
        self.records.append(record_epoch(self.start, epoch=0))
        if rank() == 0:
            self.save()
        return self._progress(self.records[-1])

    def _measure(self, *, lr: float) -> TrainingProgress:
        epoch = self.steps_done // self.length.steps_per_epoch
        loss = self.tally.mean_loss()
        with self.measuring():
            new = self._record(self._health(loss), epoch=epoch, lr=lr)
            if rank() == 0:
                self._write_results(epochs_done=epoch)
        self.tally = EpochTally()
        self.save()
        return self._progress(self.records[-1], alarms=new)

    def _health(self, loss: float) -> Health:
        projections, usage = self.tally.projections, self.tally.mean_usage()
        rank_of_features, knn_accuracy = self.look()
        return Health(
            loss=loss,
            chance_loss=self.learner.chance_loss,
            spread=None if projections is None else spread_on_sphere(projections),
            perplexity=None if usage is None else float(perplexity(usage)),
            rankme=rank_of_features,
            knn_accuracy=knn_accuracy,
        )

    def _record(self, health: Health, *, epoch: int, lr: float) -> tuple[Alarm, ...]:
        """Add to the history, and return the alarms seen for the first time."""
        assert self.start is not None
        early_epochs = max(1, EARLY_SHARE * self.length.epochs)
        is_early = epoch < self.length.epochs and epoch <= early_epochs
        found = find_alarms(health, start=self.start, epoch=epoch, is_early=is_early)
        known = {alarm.kind for alarm in self.alarms}
        new = tuple(alarm for alarm in found if alarm.kind not in known)
        self.alarms.extend(new)
        self.records.append(
            record_epoch(
                health,
                epoch=epoch,
                lr=lr,
                seconds=self.tally.seconds,
                examples=(epoch - self.records[-1].epoch)
                * self.length.steps_per_epoch
                * self.batch_size,
                alarms=found,
            )
        )
        return new

    def _write_results(self, *, epochs_done: int) -> None:
        self.write_encoder(epochs_done=epochs_done)
        write_history(self.paths.history, self.records)
        if self.is_done or time.monotonic() - self._plotted > PLOT_EVERY_S:
            plot_history(self.paths.plot, self.records, title=self.title)
            self._plotted = time.monotonic()

    def _progress(
        self,
        epoch: EpochRecord | None = None,
        *,
        alarms: tuple[Alarm, ...] = (),
        is_stopped: bool = False,
    ) -> TrainingProgress:
        return TrainingProgress(
            examples_done=self.steps_done * self.batch_size,
            examples_total=self.length.num_steps * self.batch_size,
            epoch=epoch,
            alarms=alarms,
            is_stopped=is_stopped,
        )
