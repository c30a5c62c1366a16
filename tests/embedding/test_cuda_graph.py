"""Recordings of a function on a GPU; without one, the GPU is played."""

import logging
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from aml_mil.embedding.cuda_graph import WARM_UPS, CudaGraphs

CPU = torch.device("cpu")


class PlayedGpu:
    """Doubles values; a replay doubles what lies in the recording's source by then."""

    def __init__(self, monkeypatch, *, fails=None):
        self.calls, self.replays, self.fails = [], 0, fails
        self.is_recording = False
        nothing = SimpleNamespace(wait_stream=lambda other: None)
        for name, value in {
            "Stream": lambda device: nothing,
            "current_stream": lambda device: nothing,
            "stream": self.context,
            "device": self.context,
            "graph": self.record,
            "CUDAGraph": lambda: self,
        }.items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextmanager
    def context(self, _):
        yield

    @contextmanager
    def record(self, graph, capture_error_mode):
        assert capture_error_mode == "thread_local", "the thread that fills batches pins memory"
        self.is_recording = True
        try:
            yield
        finally:
            self.is_recording = False

    def double(self, values):
        if self.is_recording and self.fails is not None:
            raise self.fails
        result = values * 2
        self.calls.append((values, result))
        return result

    def replay(self):
        self.replays += 1
        source, result = self.calls[-1]
        result.copy_(source * 2)


def test_each_shape_is_recorded_once_and_replayed_on_new_values(monkeypatch):
    gpu = PlayedGpu(monkeypatch)
    graphs = CudaGraphs(gpu.double, CPU)
    for start in range(3):
        values = torch.arange(start, start + 4.0)
        assert torch.equal(graphs(values), values * 2)
    assert (len(gpu.calls), gpu.replays) == (WARM_UPS + 1, 3)
    assert torch.equal(graphs(torch.ones(2)), torch.full((2,), 2.0))
    assert (len(gpu.calls), gpu.replays) == (2 * (WARM_UPS + 1), 4)


def test_values_stay_as_they_are(monkeypatch):
    graphs = CudaGraphs(PlayedGpu(monkeypatch).double, CPU)
    first, second = torch.ones(3), torch.zeros(3)
    graphs(first)
    graphs(second)
    assert torch.equal(first, torch.ones(3))


def test_what_cannot_be_recorded_is_called_as_it_is(monkeypatch, caplog):
    gpu = PlayedGpu(monkeypatch, fails=RuntimeError("operation not permitted when capturing"))
    graphs = CudaGraphs(gpu.double, CPU)
    with caplog.at_level(logging.WARNING):
        for start in range(3):
            values = torch.arange(start, start + 4.0)
            assert torch.equal(graphs(values), values * 2)
    assert gpu.replays == 0
    assert [r.message for r in caplog.records] == [
        "no CUDA graph, kernels are launched one by one: operation not permitted when capturing"
    ]


def test_too_little_memory_is_told_to_the_engine_which_takes_fewer_images(monkeypatch):
    gpu = PlayedGpu(monkeypatch, fails=torch.OutOfMemoryError("CUDA out of memory"))
    graphs = CudaGraphs(gpu.double, CPU)
    with pytest.raises(torch.OutOfMemoryError):
        graphs(torch.ones(4))
    gpu.fails = None
    assert torch.equal(graphs(torch.ones(2)), torch.full((2,), 2.0))
    assert gpu.replays == 1


@pytest.mark.gpu
def test_on_a_gpu_what_asks_for_values_is_launched_kernel_by_kernel():
    def ask(values):
        return values * 2 if bool((values >= 0).all()) else -values

    device = torch.device("cuda")
    graphs = CudaGraphs(ask, device)
    for values in (torch.arange(4.0), -torch.arange(1.0, 5.0)):
        torch.testing.assert_close(graphs(values), ask(values.to(device)))
