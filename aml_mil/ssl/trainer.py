"""One step of training: forward, backward, update.

Shapes: B images of this process, s pixels a side of a crop.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from aml_mil.ranks import num_ranks
from aml_mil.runtime import PRECISION_DTYPES, Precision
from aml_mil.ssl.batch_norm import share_batch_norms
from aml_mil.ssl.lowered_conv import lower_small_maps
from aml_mil.ssl.method import Method, StepOutput
from aml_mil.ssl.monitor import PixelNorm
from aml_mil.ssl.optimiser import LayerwiseOptimiser

# pytorch renamed the option (2.15 warns about the old name); drop the old one with torch < 2.15.
_UNSYNCED_BUFFERS: dict[str, Any] = (
    {"forward_sync_buffers": False}
    if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
    else {"broadcast_buffers": False}
)


class Trainer:
    """A method on its device, with its optimiser.

    Args:
        method: What is trained.
        device: Where.
        precision: Of the matrix products; weights, losses and updates stay in float32.

    Attributes:
        scaler: Keeps fp16 gradients representable; does nothing in other precisions.
    """

    def __init__(self, method: Method, *, device: torch.device, precision: Precision) -> None:
        if num_ranks() > 1:
            share_batch_norms(method, device_type=device.type)
        if device.type == "cpu":
            lower_small_maps(method)
        self.method = method.to(device).to(memory_format=torch.channels_last)
        self.method.train()
        self.device = device
        self.precision = precision
        self.optimiser = LayerwiseOptimiser(method)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        self._normalise = PixelNorm(device)
        self._forward: torch.nn.Module = method
        if num_ranks() > 1:
            # Norms share their statistics, and all processes update the same teacher and centre.
            self._forward = DistributedDataParallel(method, **_UNSYNCED_BUFFERS)

    def step(self, crops: Sequence[Tensor], targets: Tensor, *, step: int) -> StepOutput:
        """Train on one batch.

        Args:
            crops: [B, s, s, 3] uint8 of each view.
            targets: [B], see `Method.forward`.
            step: From 0.

        Returns:
            Detached results of the batch.
        """
        self.method.before_step(step)
        images = [self._normalise(crop.to(self.device, non_blocking=True)) for crop in crops]
        with torch.autocast(
            self.device.type,
            dtype=PRECISION_DTYPES[self.precision],
            enabled=self.precision != "fp32",
        ):
            output: StepOutput = self._forward(images, targets.to(self.device, non_blocking=True))
        self.optimiser.inner.zero_grad(set_to_none=True)
        self.scaler.scale(output.loss).backward()  # type: ignore[no-untyped-call]
        self._update(step)
        self.method.after_update(step)
        return StepOutput(output.loss.detach(), output.projections, output.usage)

    def _update(self, step: int) -> None:
        inner = self.optimiser.inner
        self.scaler.unscale_(inner)
        if self.scaler.is_enabled() and not _are_finite(self.method):
            # Expected now and then: the scale was too high, and is halved.
            self.scaler.update()
            return
        self.method.before_update(step)
        self.optimiser.step(self.method.values_at(step))
        self.scaler.update()


def _are_finite(method: Method) -> bool:
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    return bool(torch.nn.utils.get_total_norm(gradients).isfinite())
