"""Sums over an epoch in progress."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from aml_mil.ranks import mean_over_ranks
from aml_mil.ssl.errors import DivergedError
from aml_mil.ssl.method import StepOutput

CHECK_EVERY = 20


class EpochTally:
    """Losses and usage since the epoch began.

    Attributes:
        projections: Of the newest batch.
        seconds: Training time.
    """

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.usage: Tensor | None = None
        self.projections: Tensor | None = None
        self.seconds = 0.0

    def add(self, output: StepOutput) -> None:
        """Take a step's results; now and then wait for the device to see that they are numbers.

        Raises:
            DivergedError: The loss of any process is not finite.
        """
        self.losses.append(output.loss.double())
        self.projections = output.projections
        if output.usage is not None:
            self.usage = output.usage + (0 if self.usage is None else self.usage)
        if len(self.losses) % CHECK_EVERY == 0:
            self.mean_loss()

    def mean_loss(self) -> float:
        """Average the losses over steps and processes.

        Raises:
            DivergedError: It is not finite.
        """
        loss = float(mean_over_ranks(torch.stack(self.losses).mean()))
        if not math.isfinite(loss):
            message = (
                f"the loss became {loss}; the last good checkpoint is kept; try a lower --lr, "
                "a longer --warmup, or --precision fp32"
            )
            raise DivergedError(message)
        return loss

    def mean_usage(self) -> Tensor | None:
        """Average the usage over steps and processes; None for methods without."""
        if self.usage is None:
            return None
        return mean_over_ranks(self.usage / len(self.losses)).cpu()

    def tensors(self) -> dict[str, Tensor]:
        """Return what a resumed epoch must know."""
        kept = {"seconds": torch.tensor(self.seconds, dtype=torch.float64)}
        if self.losses:
            kept["losses"] = torch.stack(self.losses)
        if self.usage is not None:
            kept["usage"] = self.usage
        return kept

    def load_tensors(self, tensors: Mapping[str, Tensor], *, device: torch.device) -> None:
        """Take back what `tensors` returned."""
        self.seconds = float(tensors["seconds"])
        if "losses" in tensors:
            self.losses = list(tensors["losses"].to(device))
        if "usage" in tensors:
            self.usage = tensors["usage"].to(device)
