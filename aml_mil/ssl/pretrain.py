"""The run: steps and epochs, what is measured after each, and how it stops and goes on.

Shapes: N images, B images of a batch over all processes.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from aml_mil.runtime import resolve_precision, seed_everything
from aml_mil.ssl.batch_norm import norms_of
from aml_mil.ssl.batches import BatchPlan, ViewDataset, count_workers, view_loader
from aml_mil.ssl.checks import check_pool
from aml_mil.ssl.collapse import Alarm, Health, find_alarms, perplexity, rankme, spread_on_sphere
from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.history import EpochRecord, plot_history, record_epoch, write_history
from aml_mil.ssl.method import Method, RunLength
from aml_mil.ssl.methods import build_method
from aml_mil.ssl.monitor import draw_sample, encode, measure_knn
from aml_mil.ssl.pool import ImagePool, count_types
from aml_mil.ssl.ranks import any_rank, rank
from aml_mil.ssl.run_files import (
    identify,
    load_run,
    refuse_existing,
    write_encoder,
)
from aml_mil.ssl.state import RunPaths, RunState, write_state
from aml_mil.ssl.tally import EpochTally
from aml_mil.ssl.trainer import Trainer
from stores import JSON

EARLY_SHARE = 0.2
PLOT_EVERY_S = 60.0  # Drawing takes as long as an epoch of a small cohort.
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainProgress:
    """How far a run is.

    Attributes:
        images_done: Images seen since the run began, counting an image once an epoch.
        images_total: Of the whole run.
        epoch: Measured when an epoch ended, and before the first.
        alarms: Seen for the first time in this epoch.
        is_stopped: Asked to stop: the state is saved, the run is not done.
    """

    images_done: int
    images_total: int
    epoch: EpochRecord | None = None
    alarms: tuple[Alarm, ...] = ()
    is_stopped: bool = False


class PretrainRun:
    """One run, ready to begin or to go on.

    Args:
        pool: Images to learn from.
        config: Settings of the method.
        out: Where the encoder goes; state, history and picture lie beside it.
        device: Of this process.
        cohort: What the user named; recorded.
        is_resumed: Go on from the saved state.

    Raises:
        ResumeError: The files of another run are there, or there is nothing to resume.
        TooFewImagesError: The images do not fill a batch.
        DeviceError: The precision is not for this device.
    """

    def __init__(
        self,
        pool: ImagePool,
        config: PretrainConfig,
        out: Path,
        *,
        device: torch.device,
        cohort: Mapping[str, JSON] | None = None,
        is_resumed: bool = False,
    ) -> None:
        check_pool(pool, config)
        self.pool = pool
        self.config = config
        self.paths = RunPaths(encoder=out)
        self.identity = identify(config, pool, cohort=cohort or {})
        saved = load_run(self.paths, self.identity) if is_resumed else None
        if saved is None and rank() == 0:
            refuse_existing(self.paths)
        self.length = RunLength(
            epochs=config.epochs, steps_per_epoch=len(pool) // config.batch_size
        )
        seed_everything(config.seed)
        self.types = tuple(count_types(pool.sources))
        self.trainer = Trainer(
            build_method(config, self.length, num_types=len(self.types)),
            device=device,
            precision=resolve_precision(config.precision, device),
        )
        self.sample = draw_sample(pool, image_size_px=config.image_size_px, seed=config.seed)
        self.tally = EpochTally()
        self.records: list[EpochRecord] = []
        self.alarms: list[Alarm] = []
        self.start: Health | None = None
        self.steps_done = 0
        self._plotted = time.monotonic()
        if saved is not None:
            self._load(saved)

    @property
    def method(self) -> Method:
        """What is trained."""
        method: Method = self.trainer.method
        return method

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is over."""
        return self.steps_done == self.length.num_steps

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[PretrainProgress]:
        """Train to the end, or until asked to stop.

        Args:
            should_stop: Asked after every step; the state is then saved and the run ends.

        Yields:
            A record for every step, and for the measurements before the first.

        Raises:
            DivergedError: The loss is not a number; the state of the last epoch is kept.
            OSError: The disk is full; the state before is kept.
        """
        if self.start is None:
            yield self._begin()
        began = time.monotonic()
        for crops, targets in self._batches():
            values = self.method.values_at(self.steps_done)
            self.tally.add(self.trainer.step(crops, targets, step=self.steps_done))
            self.steps_done += 1
            self.tally.seconds += time.monotonic() - began
            if self.steps_done % self.length.steps_per_epoch == 0:
                yield self._end_epoch(lr=values.lr)
            else:
                yield self._progress()
            if not self.is_done and any_rank(should_stop(), device=self.trainer.device):
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
            "scaler": self.trainer.scaler.state_dict(),
        }
        write_state(
            self.paths.state,
            RunState(
                document=document,
                method=self.method.state_dict(),
                optimiser=self.trainer.optimiser.tensors(),
                tally=self.tally.tensors(),
            ),
        )

    def _load(self, saved: RunState) -> None:
        document: dict[str, Any] = dict(saved.document)
        self.method.load_state_dict(dict(saved.method))
        self.trainer.optimiser.load_tensors(dict(saved.optimiser))
        self.tally.load_tensors(saved.tally, device=self.trainer.device)
        self.steps_done = document["steps_done"]
        self.start = Health(**document["start"])
        self.records = [EpochRecord(**record) for record in document["records"]]
        self.alarms = [Alarm(**alarm) for alarm in document["alarms"]]
        self.trainer.scaler.load_state_dict(document["scaler"])

    def _batches(self) -> Any:
        plan = BatchPlan(
            self.pool,
            batch_size=self.config.batch_size,
            epochs=self.config.epochs,
            seed=self.config.seed,
            is_balanced=self.method.uses_types,
            first_step=self.steps_done,
        )
        numbers = {name: i for i, name in enumerate(self.types)}
        targets = [numbers.get(source.cell_type, -1) for source in self.pool.sources]
        dataset = ViewDataset(self.pool, self.method.views(), targets)
        workers = count_workers(self.config.workers, self.trainer.device)
        return view_loader(dataset, plan, num_workers=workers)

    def _begin(self) -> PretrainProgress:
        self.start = Health(
            loss=math.inf, chance_loss=self.method.chance_loss, **self._look_at_features()
        )
        self.records.append(record_epoch(self.start, epoch=0))
        if rank() == 0:
            self.save()
        return self._progress(self.records[-1])

    def _end_epoch(self, *, lr: float) -> PretrainProgress:
        epoch = self.steps_done // self.length.steps_per_epoch
        loss, usage = self.tally.mean_loss(), self.tally.mean_usage()
        with norms_of(self.method.exported, self.sample.batches(self.trainer.device)):
            health = Health(
                loss=loss,
                chance_loss=self.method.chance_loss,
                spread=None
                if self.tally.projections is None
                else spread_on_sphere(self.tally.projections),
                perplexity=None if usage is None else float(perplexity(usage)),
                **self._look_at_features(),
            )
            new = self._record(health, epoch=epoch, lr=lr)
            if rank() == 0:
                self._write_results(epochs_done=epoch)
        self.tally = EpochTally()
        self.save()
        return self._progress(self.records[-1], alarms=new)

    def _record(self, health: Health, *, epoch: int, lr: float) -> tuple[Alarm, ...]:
        """Add an epoch to the history, and return the alarms seen for the first time."""
        assert self.start is not None
        early_epochs = max(1, EARLY_SHARE * self.config.epochs)
        is_early = epoch < self.config.epochs and epoch <= early_epochs
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
                images=self.length.steps_per_epoch * self.config.batch_size,
                alarms=found,
            )
        )
        return new

    def _write_results(self, *, epochs_done: int) -> None:
        write_encoder(
            self.paths,
            self.method.exported,
            config=self.config,
            pool=self.pool,
            identity=self.identity,
            epochs_done=epochs_done,
            alarms=self.alarms,
        )
        write_history(self.paths.history, self.records)
        if self.is_done or time.monotonic() - self._plotted > PLOT_EVERY_S:
            title = f"{self.method.name}, {self.config.architecture}, {len(self.pool)} images"
            plot_history(self.paths.plot, self.records, title=title)
            self._plotted = time.monotonic()

    def _look_at_features(self) -> dict[str, Any]:
        if rank() > 0:
            return {"rankme": math.nan, "knn_accuracy": None}
        features = encode(self.method.exported, self.sample.images, device=self.trainer.device)
        return {"rankme": rankme(features), "knn_accuracy": measure_knn(features, self.sample)}

    def _progress(
        self,
        epoch: EpochRecord | None = None,
        *,
        alarms: tuple[Alarm, ...] = (),
        is_stopped: bool = False,
    ) -> PretrainProgress:
        return PretrainProgress(
            images_done=self.steps_done * self.config.batch_size,
            images_total=self.length.num_steps * self.config.batch_size,
            epoch=epoch,
            alarms=alarms,
            is_stopped=is_stopped,
        )
