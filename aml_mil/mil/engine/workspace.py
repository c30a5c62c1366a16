"""Memory that the steps of a run use again and again.

Fresh memory costs a page fault per 4 KiB when it is first touched: for activations of a few
hundred megabytes that is as long as a third of the step's arithmetic.
"""

import math

import torch
from torch import Tensor


class Workspace:
    """Lend tensors by name; the same name lends the same memory.

    Args:
        device: Where the memory lies.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[str, Tensor] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a contiguous tensor of any content; what the name lent before is overwritten."""
        size = math.prod(shape)
        memory = self._memory.get(name)
        if memory is None or memory.dtype != dtype or len(memory) < size:
            memory = torch.empty(size, dtype=dtype, device=self._device)
            self._memory[name] = memory
        return memory[:size].view(shape)
