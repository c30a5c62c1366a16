"""Tensors that say they are on a GPU where there is none: shapes and devices, no values.

An operation on tensors of two devices fails there as it would on a GPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda")


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Make every new tensor a pretended one, on the device that is asked for."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def pretend_to_move(module: nn.Module) -> None:
    """Replace parameters and buffers, in place; what a module holds beside them stays behind."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = _like(parameter)
                part._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = _like(buffer)


def _like(values: Tensor) -> Tensor:
    return torch.empty(values.shape, dtype=values.dtype, device=CUDA)
