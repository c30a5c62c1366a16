"""Patient-level pre-training: what a run is made of, and what is measured of its encoder.

Shapes: P training patients, B patients of a step over all processes.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
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
from aml_mil.ranks import num_ranks, rank
from aml_mil.runtime import library_versions, seed_everything
from aml_mil.ssl.collapse import rankme
from aml_mil.ssl.method import RunLength, StepOutput
from aml_mil.ssl.optimiser import LayerwiseOptimiser
from aml_mil.ssl.run_files import RunIdentity
from aml_mil.ssl.training_run import TrainingRun
from stores import JSON

METHOD = "giga-ssl"
NUM_MEASUREMENTS = 50
MEASURED_PATIENTS, MEASURED_DRAWS = 512, 4


class GigaRun(TrainingRun[CellSets]):
    """One run on patients, ready to begin or to go on.

    Args:
        bags: Training patients; nobody else's cells may be in it.
        config: Settings.
        out: Where the encoder of patients goes; state, history and picture lie beside it.
        device: Of this process, where the bags lie.
        source: What the user named; recorded.
        is_resumed: Go on from the saved state.

    Raises:
        TooFewPatientsError: There are too few patients, or patients of one cell.
        CoordsMissingError: The sparse encoder was asked for, and cells lack places.
        GigaError: A setting has no effect on the encoder that auto takes.
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
        num_patients = len(bags.patient_ids)
        batch_size = min(config.batch_size, num_patients)
        check_patients(bags, batch_size=batch_size)
        self.bags, self.config = bags, config
        super().__init__(
            out,
            RunIdentity(
                method=METHOD,
                config=config.to_json(),
                images_sha256=bags.sha256,
                cohort=dict(source or {}),
            ),
            RunLength(epochs=config.epochs, steps_per_epoch=num_patients // batch_size),
            batch_size=batch_size,
            device=device,
            is_resumed=is_resumed,
        )
        encoder = build_encoder(choose_shape(bags, config), seed=config.seed)
        encoder.set_scale(*(values.cpu() for values in measure_scale(bags)))
        seed_everything(config.seed)
        contrast = Contrast(encoder, config, self.length, batch_size=batch_size)
        self.trainer = GigaTrainer(contrast, device=device)
        self._go_on()

    @property
    def learner(self) -> Contrast:
        """What is trained."""
        return self.trainer.contrast

    @property
    def optimiser(self) -> LayerwiseOptimiser:
        """What moves the weights."""
        return self.trainer.optimiser

    @property
    def title(self) -> str:
        """Of the picture."""
        kind = self.learner.encoder.shape.kind
        return f"{METHOD}, {kind} encoder, {len(self.bags.patient_ids)} patients"

    def batches(self) -> Iterator[CellSets]:
        """Draw this process's share of every step that is left."""
        while not self.is_done:
            yield self.next_sets()

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

    def step(self, batch: CellSets) -> StepOutput:
        """Train on one batch."""
        return self.trainer.step(batch, step=self.steps_done)

    def is_due(self) -> bool:
        """Whether to measure: some fifty times a run, as looking takes longer than a step."""
        epochs, rest = divmod(self.steps_done, self.length.steps_per_epoch)
        every = max(self.config.epochs // NUM_MEASUREMENTS, 1)
        return rest == 0 and (epochs % every == 0 or self.is_done)

    def look(self) -> tuple[float, float | None]:
        """Measure RankMe of the first patients' embeddings, in the first process."""
        if rank() > 0:
            return math.nan, None
        encoder = self.learner.encoder
        few = embed_patients(encoder, self.bags, num_draws=MEASURED_DRAWS)
        rows = [row for row, _ in zip(few, range(MEASURED_PATIENTS), strict=False)]
        encoder.train()
        return rankme(torch.from_numpy(np.stack(rows))), None

    def write_encoder(self, *, epochs_done: int) -> None:
        """Save what `giga-embed` takes."""
        encoder = self.learner.encoder
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
