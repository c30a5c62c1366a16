"""Batch norm over the images of all processes, and its statistics of images as they are."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from aml_mil.ranks import num_ranks, sum_over_ranks


class SharedBatchNorm(_BatchNorm):
    """What torch's SyncBatchNorm does, for processes on CPUs, which that refuses."""

    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002  (torch's name)
        """Accept [B, C] and [B, C, H, W]."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Normalise by the mean and variance over all processes in training."""
        if not self.training:
            return super().forward(input)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        values = input.float()
        axes = [0, *range(2, input.ndim)]
        count = values.numel() // values.shape[1] * num_ranks()
        mean = sum_over_ranks(values.sum(axes)) / count
        shape = (1, -1, *[1] * (input.ndim - 2))
        centred = values - mean.view(shape)
        variance = sum_over_ranks(centred.square().sum(axes)) / count
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            # As torch does: without a momentum, the mean over all batches.
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean, share)
            self.running_var.lerp_(variance * count / (count - 1), share)
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            scaled = scaled * self.weight.view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


def share_batch_norms(module: nn.Module, *, device_type: str) -> nn.Module:
    """Let every batch norm of a network see the images of all processes.

    Args:
        module: A network; its own norms are replaced, names and values stay.
        device_type: ``cuda`` for torch's own implementation.

    Returns:
        The network.
    """
    if device_type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(  # type: ignore[no-untyped-call]
            module
        )
        return converted
    for name, child in module.named_children():
        if type(child) in (nn.BatchNorm1d, nn.BatchNorm2d):
            assert isinstance(child, _BatchNorm)
            shared = SharedBatchNorm(
                child.num_features, eps=child.eps, momentum=child.momentum, affine=child.affine
            )
            # The very parameters and buffers: a teacher's must stay without gradient.
            shared._parameters, shared._buffers = child._parameters, child._buffers
            setattr(module, name, shared)
        else:
            share_batch_norms(child, device_type=device_type)
    return module


@contextmanager
def norms_of(network: nn.Module, batches: Iterable[Tensor]) -> Iterator[None]:
    """Give a network's batch norms the running statistics of some images, for a while.

    In training they follow crops and changed colours, which an encoder is not used on: with small
    crops beside large ones, features of whole cells can be worse than those of random weights.

    Args:
        network: Of this process; all processes must do so at the same time, with the same images.
        batches: Inputs of the network, each of more than one image.
    """
    buffers = [
        buffer
        for module in network.modules()
        if isinstance(module, _BatchNorm)
        for buffer in module.buffers()
    ]
    kept = [buffer.clone() for buffer in buffers]
    update_bn(batches, network)
    try:
        yield
    finally:
        for buffer, value in zip(buffers, kept, strict=True):
            buffer.copy_(value)
