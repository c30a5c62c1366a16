"""The run: steps and epochs, what is measured now and then, and how it stops and goes on.

Shapes: P training patients, B patients of a step over all processes.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aml_mil.giga.bags import CellSets, PatientBags
from aml_mil.giga.checkpoint import GigaInfo, describe_features, save_giga
from aml_mil.giga.checks import check_patients
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.draws import draw_pair, draw_patients, gather_pair
from aml_mil.giga.embed import embed_patients
from aml_mil.giga.network import build_encoder
from aml_mil.giga.shape import choose_shape, measure_scale
from aml_mil.giga.training import Contrast, GigaTrainer
from aml_mil.runtime import library_versions, seed_everything
from aml_mil.ssl.collapse import Alarm, Health, find_alarms, rankme, spread_on_sphere
from aml_mil.ssl.history import EpochRecord, plot_history, record_epoch, write_history
from aml_mil.ssl.method import RunLength
from aml_mil.ssl.ranks import any_rank, num_ranks, rank
from aml_mil.ssl.run_files import RunIdentity, load_run, refuse_existing
from aml_mil.ssl.state import RunPaths, RunState, write_state
from aml_mil.ssl.tally import EpochTally
from stores import JSON

METHOD = "giga-ssl"
EARLY_SHARE = 0.2
NUM_MEASUREMENTS = 50
MEASURED_PATIENTS, MEASURED_DRAWS = 512, 4


@dataclass(frozen=True, slots=True, kw_only=True)
class GigaProgress:
    """How far a run is.

    Attributes:
        steps_done: Since the run began.
        epoch: Measured now and then, and before the first step.
        alarms: Seen for the first time.
        is_stopped: Asked to stop: the state is saved, the run is not done.
    """

    steps_done: int
    epoch: EpochRecord | None = None
    alarms: tuple[Alarm, ...] = ()
    is_stopped: bool = False


class GigaRun:
    """One run, ready to begin or to go on.

    Args:
        bags: Training patients; nobody else's cells may be in it.
        config: Settings.
        out: Where the encoder of patients goes; state, history and picture lie beside it.
        device: Of this process, where the bags lie.
        source: What the user named; recorded.
        is_resumed: Go on from the saved state.

    Attributes:
        records: Measurements so far, the first before training.
        alarms: Seen so far.

    Raises:
        TooFewPatientsError: There are too few patients, or patients of one cell.
        CoordsMissingError: The sparse encoder was asked for, and cells lack places.
        ResumeError: The files of another run are there, or there is nothing to resume.
    """

    def __init__(
        self,
        bags: PatientBags,
        config: GigaConfig,
        out: Path,
        *,
        device: torch.device,
        source: Mapping[str, JSON] | None = None,
        is_resumed: bool = False,
    ) -> None:
        self.batch_size = min(config.batch_size, len(bags.patient_ids))
        check_patients(bags, batch_size=self.batch_size)
        self.bags, self.config, self.device = bags, config, device
        self.paths = RunPaths(encoder=out)
        self.identity = RunIdentity(
            method=METHOD,
            config=config.to_json(),
            images_sha256=bags.sha256,
            cohort=dict(source or {}),
        )
        saved = load_run(self.paths, self.identity) if is_resumed else None
        if saved is None and rank() == 0:
            refuse_existing(self.paths)
        self.length = RunLength(
            epochs=config.epochs, steps_per_epoch=len(bags.patient_ids) // self.batch_size
        )
        encoder = build_encoder(choose_shape(bags, config), seed=config.seed)
        encoder.set_scale(*(values.cpu() for values in measure_scale(bags)))
        seed_everything(config.seed)
        contrast = Contrast(encoder, config, self.length, batch_size=self.batch_size)
        self.trainer = GigaTrainer(contrast, device=device)
        self.tally = EpochTally()
        self.records: list[EpochRecord] = []
        self.alarms: list[Alarm] = []
        self.start: Health | None = None
        self.steps_done = 0
        self.seconds = 0.0
        if saved is not None:
            self._load(saved)

    @property
    def is_done(self) -> bool:
        """Whether the last epoch is over."""
        return self.steps_done == self.length.num_steps

    def train(self, should_stop: Callable[[], bool] = lambda: False) -> Iterator[GigaProgress]:
        """Train to the end, or until asked to stop.

        Args:
            should_stop: Asked after every step; the state is then saved and the run ends.

        Yields:
            A record for every step, and for the measurements before the first.

        Raises:
            DivergedError: The loss is not a number; the state of the last measurement is kept.
            OSError: The disk is full; the state before is kept.
        """
        if self.start is None:
            yield self._begin()
        while not self.is_done:
            began = time.monotonic()
            lr = self.trainer.contrast.values_at(self.steps_done).lr
            self.tally.add(self.trainer.step(self.next_sets(), step=self.steps_done))
            self.steps_done += 1
            self.tally.seconds += time.monotonic() - began
            if self._is_due():
                yield self._measure(lr=lr)
            else:
                yield GigaProgress(steps_done=self.steps_done)
            if not self.is_done and any_rank(should_stop(), device=self.device):
                self.save()
                yield GigaProgress(steps_done=self.steps_done, is_stopped=True)
                return

    def save(self) -> None:
        """Save the state; the first process does it for all."""
        if self.tally.losses:
            self.tally.mean_loss()  # what is not a number must not replace the last good state
        if rank() > 0:
            return
        document: dict[str, Any] = {
            "identity": asdict(self.identity),
            "steps_done": self.steps_done,
            "seconds": self.seconds,
            "start": asdict(self.start) if self.start else None,
            "records": [asdict(record) for record in self.records],
            "alarms": [asdict(alarm) for alarm in self.alarms],
        }
        state = RunState(
            document=document,
            method=self.trainer.contrast.state_dict(),
            optimiser=self.trainer.optimiser.tensors(),
            tally=self.tally.tensors(),
        )
        write_state(self.paths.state, state)

    def _load(self, saved: RunState) -> None:
        document: dict[str, Any] = dict(saved.document)
        self.trainer.contrast.load_state_dict(dict(saved.method))
        self.trainer.optimiser.load_tensors(dict(saved.optimiser))
        self.tally.load_tensors(saved.tally, device=self.device)
        self.steps_done, self.seconds = document["steps_done"], document["seconds"]
        self.start = Health(**document["start"])
        self.records = [EpochRecord(**record) for record in document["records"]]
        self.alarms = [Alarm(**alarm) for alarm in document["alarms"]]

    def next_sets(self) -> CellSets:
        """Fetch this process's share of the step, both views."""
        patients = draw_patients(
            len(self.bags.patient_ids),
            batch_size=self.batch_size,
            seed=self.config.seed,
            step=self.steps_done,
        )
        draw = draw_pair(
            patients,
            self.bags.offsets,
            num_views=self.bags.num_views,
            cells=self.config.cells,
            seed=self.config.seed,
            step=self.steps_done,
        )
        share = self.batch_size // num_ranks()
        own = slice(rank() * share, (rank() + 1) * share)
        return gather_pair(self.bags, draw.take(own))

    def _is_due(self) -> bool:
        """Whether to measure: some fifty times a run, as looking takes longer than a step."""
        epochs, rest = divmod(self.steps_done, self.length.steps_per_epoch)
        every = max(self.config.epochs // NUM_MEASUREMENTS, 1)
        return rest == 0 and (epochs % every == 0 or self.is_done)

    def _begin(self) -> GigaProgress:
        chance = self.trainer.contrast.chance_loss
        self.start = Health(loss=math.inf, chance_loss=chance, rankme=self._rank())
        self.records.append(record_epoch(self.start, epoch=0))
        if rank() == 0:
            self.save()
        return GigaProgress(steps_done=0, epoch=self.records[-1])

    def _measure(self, *, lr: float) -> GigaProgress:
        assert self.start is not None
        assert self.tally.projections is not None
        epoch = self.steps_done // self.length.steps_per_epoch
        health = Health(
            loss=self.tally.mean_loss(),
            chance_loss=self.trainer.contrast.chance_loss,
            rankme=self._rank(),
            spread=spread_on_sphere(self.tally.projections),
        )
        is_early = epoch < self.config.epochs and epoch <= EARLY_SHARE * self.config.epochs
        found = find_alarms(health, start=self.start, epoch=epoch, is_early=is_early)
        known = {alarm.kind for alarm in self.alarms}
        new = tuple(alarm for alarm in found if alarm.kind not in known)
        self.alarms.extend(new)
        record = record_epoch(health, epoch=epoch, lr=lr, seconds=self.tally.seconds, alarms=found)
        self.records.append(record)
        self.seconds += self.tally.seconds
        self.tally = EpochTally()
        self.save()
        if rank() == 0:
            self._write_results(epochs_done=epoch)
        return GigaProgress(steps_done=self.steps_done, epoch=record, alarms=new)

    def _write_results(self, *, epochs_done: int) -> None:
        encoder = self.trainer.contrast.encoder
        recipe: dict[str, Any] = {
            "config": self.config.to_json(),
            "source": dict(self.identity.cohort),
            "store": str(self.bags.path),
            "bags_sha256": self.bags.sha256,
            "views": list(self.bags.manifest.views),
            "batch_size": self.batch_size,
            "epochs_done": epochs_done,
            "alarms": [asdict(alarm) for alarm in self.alarms],
            "versions": library_versions("torch", "numpy"),
        }
        info = GigaInfo(
            shape=encoder.shape,
            features=describe_features(self.bags.manifest),
            trained_on=self.bags.patient_ids,
            features_trained_on=self.bags.manifest.trained_on,
            recipe=recipe,
        )
        save_giga(self.paths.encoder, encoder, info)
        write_history(self.paths.history, self.records)
        if self.is_done:
            title = f"{METHOD}, {encoder.shape.kind} encoder, {len(self.bags.patient_ids)} patients"
            plot_history(self.paths.plot, self.records, title=title)

    def _rank(self) -> float:
        """Measure the dimensions that embeddings of the first patients use."""
        if rank() > 0:
            return math.nan
        encoder = self.trainer.contrast.encoder
        few = embed_patients(encoder, self.bags, num_draws=MEASURED_DRAWS)
        rows = [row for row, _ in zip(few, range(MEASURED_PATIENTS), strict=False)]
        encoder.train()
        return rankme(torch.from_numpy(np.stack(rows)))
