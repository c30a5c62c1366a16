"""A GPU that is played where there is none: tensors with values that say where they are.

A storage is marked as lying on the GPU, and what is computed from it lies there too. Operands on
two devices, arrays of a tensor that lies there, and values asked for while kernels are recorded are
errors as they are there. Kernels are the CPU's: nothing is said of their speed and rounding, nor of
streams that race.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
MEMORY_BYTES = 2**34

aten = torch.ops.aten
ASKS_FOR_VALUES = {
    aten._local_scalar_dense.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten._unique2.default,
}
COPIES = {aten.copy_.default, aten._foreach_copy_.default}
TAKES_BOTH = COPIES | {aten.index.Tensor, aten.index_put.default, aten.index_put_.default}

parse_to: Callable[..., Any] = torch._C._nn._parse_to


class PlayedGpu:
    """What the GPU does now.

    Attributes:
        waits: What the program has waited for: values, and copies that are not from pinned memory.
        tape: Kernels that are recorded now; None if none are.
        num_replays: How often recordings were run.
    """

    def __init__(self) -> None:
        self.waits: list[str] = []
        self.tape: list[tuple[Any, ...]] | None = None
        self.num_replays = 0
        self._pinned: dict[int, Tensor] = {}

    def wait(self, what: object) -> None:
        """Note that the program waits.

        Raises:
            RuntimeError: Kernels are being recorded.
        """
        self.waits.append(str(what))
        if self.tape is not None:
            raise RuntimeError(f"CUDA error: not permitted when stream is capturing: {what}")

    def pin(self, values: Tensor) -> Tensor:
        """Copy values to pinned memory."""
        assert not lies_there(values), "cannot pin a tensor of the GPU"
        pinned = values.clone()
        self._pinned[pinned.data_ptr()] = pinned  # kept: no other memory gets this address
        return pinned

    def is_pinned(self, values: Tensor) -> bool:
        """Tell whether memory was asked for as pinned, also where NumPy brought it back."""
        return values.untyped_storage().data_ptr() in self._pinned


def lies_there(values: Tensor) -> bool:
    """Tell whether a tensor lies on the played GPU."""
    if values.layout is not torch.strided:
        return False
    return getattr(values.untyped_storage(), "lies_on_gpu", False)


def _place(values: Any, *, is_there: bool) -> Any:
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
            leaf.untyped_storage().lies_on_gpu = is_there
    return values


def _names_gpu(device: object) -> bool:
    return str(device).split(":")[0] == "cuda"


class _Kernels(TorchDispatchMode):
    """Let results lie where their operands do."""

    def __init__(self, gpu: PlayedGpu) -> None:
        super().__init__()
        self._gpu = gpu

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        operands = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        left = [values for values in operands if not lies_there(values)]
        if len(left) == len(operands):
            return func(*args, **kwargs)
        if func in ASKS_FOR_VALUES:
            self._gpu.wait(func)
        elif func in TAKES_BOTH:
            if not all(map(self._gpu.is_pinned, left)):
                self._gpu.wait(func)
        elif any(values.ndim for values in left):
            shapes = [tuple(values.shape) for values in left]
            raise RuntimeError(f"expected all tensors to be on one device: {func}, CPU: {shapes}")
        result = func(*args, **kwargs)
        if func not in COPIES:
            _place(result, is_there=True)
        if self._gpu.tape is not None:
            self._gpu.tape.append((func, args, kwargs, result))
        return result


class _Calls(TorchFunctionMode):
    """Answer what a tensor says of its device, and what brings it to another."""

    def __init__(self, gpu: PlayedGpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._answers = {
            Tensor.device.__get__: lambda values: GPU if lies_there(values) else CPU,
            Tensor.is_cuda.__get__: lies_there,
            Tensor.pin_memory: gpu.pin,
            Tensor.is_pinned: gpu.is_pinned,
            Tensor.cpu: lambda values: self._bring(values, CPU),
            Tensor.to: self._bring,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if (answer := self._answers.get(func)) is not None:
            return answer(*args, **kwargs)
        if func in (Tensor.numpy, Tensor.__array__) and lies_there(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy; use Tensor.cpu()")
        if func is Tensor.tolist and lies_there(args[0]):
            self._gpu.wait(func)
        if kwargs.pop("pin_memory", False):
            return self._gpu.pin(func(*args, **kwargs))
        if func is parse_to or kwargs.get("device") is None:
            return func(*args, **kwargs)
        device = kwargs.pop("device")
        return _place(func(*args, device="cpu", **kwargs), is_there=_names_gpu(device))

    def _bring(self, values: Tensor, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        was = goes = lies_there(values)
        if args and isinstance(args[0], Tensor):
            goes, args = lies_there(args[0]), (args[0].dtype, *args[1:])
        device, dtype, _, memory_format = parse_to(*args, **kwargs)
        if device is not None:
            goes = _names_gpu(device)
        if was != goes and not self._gpu.is_pinned(values):
            self._gpu.wait("a copy between CPU and GPU")
        kept = {} if memory_format is None else {"memory_format": memory_format}
        copy = copy or was != goes
        return _place(Tensor.to(values, dtype or values.dtype, copy=copy, **kept), is_there=goes)


class _Graph:
    """Kernels recorded, and run again on what their operands hold by then."""

    def __init__(self, gpu: PlayedGpu) -> None:
        self._gpu = gpu
        self.tape: list[tuple[Any, ...]] = []

    @torch.no_grad()
    def replay(self) -> None:
        self._gpu.num_replays += 1
        for func, args, kwargs, result in self.tape:
            again = func(*args, **kwargs)
            for old, new in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


@contextmanager
def played_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedGpu]:
    """Play a GPU, in this thread and in all that it starts."""
    gpu = PlayedGpu()
    stream = SimpleNamespace(
        wait_stream=lambda other: None, is_capturing=lambda: gpu.tape is not None
    )

    @contextmanager
    def nothing(*_: object) -> Iterator[None]:
        yield

    @contextmanager
    def record(graph: _Graph, **_: object) -> Iterator[None]:
        gpu.tape = graph.tape
        try:
            yield
        finally:
            gpu.tape = None

    for place, stands_in in (
        (
            torch.cuda,
            {
                "_lazy_init": lambda: None,
                "CUDAGraph": lambda: _Graph(gpu),
                "Stream": lambda *_: stream,
                "current_stream": lambda device=None: stream,
                "device": nothing,
                "device_count": lambda: 1,
                "empty_cache": lambda: None,
                "get_device_name": lambda device=None: "played GPU",
                "graph": record,
                "is_available": lambda: True,
                "is_current_stream_capturing": lambda: gpu.tape is not None,
                "is_bf16_supported": lambda *_: True,
                "mem_get_info": lambda device=None: (MEMORY_BYTES, MEMORY_BYTES),
                "set_device": lambda device: None,
                "stream": nothing,
                "synchronize": lambda device=None: None,
            },
        ),
        (
            torch.accelerator,
            {
                "current_accelerator": lambda check_available=False: GPU,
                "current_stream": lambda device=None: stream,
                "set_device_index": lambda device: None,
            },
        ),
        (torch, {"autocast": _Autocast}),
    ):
        for name, value in stands_in.items():
            monkeypatch.setattr(place, name, value)
    for name in ("is_autocast_enabled", "get_autocast_dtype"):
        ask = getattr(torch, name)
        monkeypatch.setattr(
            torch, name, lambda kind="cpu", ask=ask: ask("cpu" if kind == "cuda" else kind)
        )
    run = threading.Thread.run

    def run_there(thread: threading.Thread) -> None:
        with _Calls(gpu), _Kernels(gpu):
            run(thread)

    monkeypatch.setattr(threading.Thread, "run", run_there)
    with _Calls(gpu), _Kernels(gpu):
        yield gpu
