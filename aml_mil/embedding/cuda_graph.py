"""A function of one tensor, recorded on a GPU and replayed by one call.

Launching hundreds of kernels takes as many turns at the interpreter, which the threads that decode
want as well; a replay takes one.
"""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

WARM_UPS = 2  # libraries choose their kernels and take their memory in the first calls

logger = logging.getLogger(__name__)


class _Recording(NamedTuple):
    graph: Any
    source: Tensor
    result: Tensor


class CudaGraphs:
    """Calls a function by recordings, one for each shape of its argument.

    A function that cannot be recorded, because it asks the GPU for values on its way, is called as
    it is.

    Args:
        function: Takes and gives a tensor on the GPU; its kernels depend on the shape alone.
        device: The GPU.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._function = function
        self._device = device
        self._recordings: dict[torch.Size, _Recording] = {}
        self._can_record = True

    def __call__(self, values: Tensor) -> Tensor:
        """Apply the function.

        Args:
            values: Anywhere; from pinned memory they are copied without waiting.

        Returns:
            The result on the GPU; the next call of that shape overwrites it.

        Raises:
            torch.OutOfMemoryError: The GPU has too little memory; nothing is kept of the attempt.
        """
        if self._can_record and values.shape not in self._recordings:
            with torch.cuda.device(self._device):
                self._record(values)
        if not self._can_record:
            return self._function(values.to(self._device, non_blocking=True))
        recording = self._recordings[values.shape]
        recording.source.copy_(values, non_blocking=True)
        recording.graph.replay()
        return recording.result

    def _record(self, values: Tensor) -> None:
        self._recordings.clear()  # other shapes are over: their memory may be what is missing
        source = values.to(self._device, copy=True)
        beside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        beside.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(beside):
            for _ in range(WARM_UPS):
                self._function(source)
        torch.cuda.current_stream(self._device).wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads take pinned memory meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                result = self._function(source)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            if isinstance(error.__context__, torch.OutOfMemoryError):  # the end of a cut recording
                raise error.__context__ from None
            self._can_record = False
            logger.warning("no CUDA graph, kernels are launched one by one: %s", error)
            return
        self._recordings[values.shape] = _Recording(graph, source, result)
