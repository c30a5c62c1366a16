"""One step of training over all processes.

Shapes: B patients of this process, k cells of a set.
"""

import math

import torch
from torch import Tensor, nn

from aml_mil.giga.bags import CellSets
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.network import PatientEncoder, Projector
from aml_mil.ranks import mean_over_ranks, num_ranks
from aml_mil.ssl.batch_norm import share_batch_norms
from aml_mil.ssl.method import OptimiserSettings, RunLength, StepOutput, StepValues
from aml_mil.ssl.ntxent import nt_xent_loss
from aml_mil.ssl.optimiser import LayerwiseOptimiser
from aml_mil.ssl.schedules import length_in_steps, warmup_cosine_schedule


class Contrast(nn.Module):
    """Encoder and projector: two views of a patient must find each other.

    Args:
        encoder: Of patients.
        config: Settings.
        length: Of the run.
        batch_size: Patients of a step over all processes.
    """

    def __init__(
        self, encoder: PatientEncoder, config: GigaConfig, length: RunLength, *, batch_size: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = Projector(config.width, out=config.head_out)
        self.config = config
        self.length = length
        self.batch_size = batch_size

    @property
    def chance_loss(self) -> float:
        """ln(2B - 1): all views look alike."""
        return math.log(2 * self.batch_size - 1)

    @property
    def optimiser(self) -> OptimiserSettings:
        """Adam, with the weight decay that is configured."""
        return OptimiserSettings(name="adam")

    def values_at(self, step: int) -> StepValues:
        """Warm up, then fall to 0 along a cosine."""
        lr = warmup_cosine_schedule(
            step,
            num_steps=self.length.num_steps,
            num_warmup_steps=length_in_steps(
                self.config.warmup,
                epochs=self.length.epochs,
                steps_per_epoch=self.length.steps_per_epoch,
            ),
            peak=self.config.lr * self.batch_size / 256,
            end=0.0,
        )
        return StepValues(lr, self.config.weight_decay)

    def forward(self, sets: CellSets) -> StepOutput:
        """Contrast sets of cells, [2B, k, D]: the first views, then the second of the same."""
        projections: Tensor = self.projector(self.encoder(sets))
        first, second = projections.chunk(2)
        loss = nt_xent_loss(first, second, temperature=self.config.temperature)
        return StepOutput(loss, first.detach(), None)


class GigaTrainer:
    """A contrast on its device, with its optimiser.

    Args:
        contrast: What is trained.
        device: Where.
    """

    def __init__(self, contrast: Contrast, *, device: torch.device) -> None:
        if num_ranks() > 1:
            share_batch_norms(contrast, device_type=device.type)
        self.contrast = contrast.to(device)
        self.contrast.train()
        self.optimiser = LayerwiseOptimiser(contrast)

    def step(self, sets: CellSets, *, step: int) -> StepOutput:
        """Train on one batch.

        Args:
            sets: Of this process, [2B, k, D].
            step: From 0.

        Returns:
            Detached results of the batch.
        """
        output: StepOutput = self.contrast(sets)
        self.optimiser.inner.zero_grad(set_to_none=True)
        output.loss.backward()  # type: ignore[no-untyped-call]
        for parameter in self.contrast.parameters():
            if num_ranks() > 1 and parameter.grad is not None:
                parameter.grad.copy_(mean_over_ranks(parameter.grad))
        self.optimiser.step(self.contrast.values_at(step))
        return StepOutput(output.loss.detach(), output.projections, output.usage)
