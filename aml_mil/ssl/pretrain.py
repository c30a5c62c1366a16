"""Pre-training on images: what a run is made of, and what is measured of its encoder.

Shapes: N images, B images of a batch over all processes, s pixels a side of a crop.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor

from aml_mil.ranks import rank
from aml_mil.runtime import resolve_precision, seed_everything
from aml_mil.ssl.batch_norm import norms_of
from aml_mil.ssl.batches import BatchPlan, ViewDataset, count_workers, view_loader
from aml_mil.ssl.checks import check_crops, check_pool, find_idle
from aml_mil.ssl.collapse import rankme
from aml_mil.ssl.config import PretrainConfig
from aml_mil.ssl.method import Method, RunLength, StepOutput
from aml_mil.ssl.methods import build_method
from aml_mil.ssl.monitor import draw_sample, encode, measure_knn
from aml_mil.ssl.optimiser import LayerwiseOptimiser
from aml_mil.ssl.pool import ImagePool, count_types
from aml_mil.ssl.run_files import identify, write_encoder
from aml_mil.ssl.trainer import Trainer
from aml_mil.ssl.training_run import TrainingRun
from stores import JSON

logger = logging.getLogger(__name__)

Crops = tuple[list[Tensor], Tensor]  # [B, s, s, 3] uint8 of each view, and targets [B]


class PretrainRun(TrainingRun[Crops]):
    """One run on images, ready to begin or to go on.

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
        PretrainError: The encoder does not take the method's small crops.
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
        super().__init__(
            out,
            identify(config, pool, cohort=cohort or {}),
            RunLength(epochs=config.epochs, steps_per_epoch=len(pool) // config.batch_size),
            batch_size=config.batch_size,
            device=device,
            is_resumed=is_resumed,
        )
        seed_everything(config.seed)
        for idle in find_idle(config, self.length) if rank() == 0 else ():
            logger.warning("%s", idle)
        self.types = tuple(count_types(pool.sources))
        method = build_method(config, self.length, num_types=len(self.types))
        check_crops(method.backbone, config)
        self.trainer = Trainer(
            method, device=device, precision=resolve_precision(config.precision, device)
        )
        size_px, seed = config.image_size_px, config.seed
        self.sample = draw_sample(pool, image_size_px=size_px, seed=seed, is_annotated_first=True)
        self.typical = draw_sample(pool, image_size_px=size_px, seed=seed)
        self._go_on()

    @property
    def method(self) -> Method:
        """What is trained."""
        method: Method = self.trainer.method
        return method

    learner = method

    @property
    def optimiser(self) -> LayerwiseOptimiser:
        """What moves the weights."""
        return self.trainer.optimiser

    @property
    def scaler(self) -> torch.amp.GradScaler:
        """What keeps fp16 gradients representable."""
        return self.trainer.scaler

    @property
    def title(self) -> str:
        """Of the picture."""
        return f"{self.method.name}, {self.config.architecture}, {len(self.pool)} images"

    def batches(self) -> Iterator[Crops]:
        """Draw this process's share of every step that is left."""
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
        workers = count_workers(self.config.workers, self.device)
        return iter(view_loader(dataset, plan, num_workers=workers))

    def step(self, batch: Crops) -> StepOutput:
        """Train on one batch."""
        crops, targets = batch
        return self.trainer.step(crops, targets, step=self.steps_done)

    def measuring(self) -> AbstractContextManager[object]:
        """Give the encoder the normalisation that it has for whole images."""
        return norms_of(self.method.exported, self.typical.batches(self.device))

    def look(self) -> tuple[float, float | None]:
        """Measure RankMe and the kNN accuracy of a sample, in the first process."""
        if rank() > 0:
            return math.nan, None
        features = encode(self.method.exported, self.sample.images, device=self.device)
        return rankme(features), measure_knn(features, self.sample)

    def write_encoder(self, *, epochs_done: int) -> None:
        """Save what `embed` takes."""
        write_encoder(
            self.paths,
            self.method.exported,
            config=self.config,
            pool=self.pool,
            identity=self.identity,
            epochs_done=epochs_done,
            alarms=self.alarms,
        )
