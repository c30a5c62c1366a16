"""Recordings of a function on a GPU, played or real."""

import logging

import pytest
import torch

from aml_mil.embedding.cuda_graph import WARM_UPS, CudaGraphs
from tests.played_gpu import PlayedGpu

CUDA = torch.device("cuda")


class Doubling:
    """Doubles values; fails while it is recorded, if told to."""

    def __init__(self, played: PlayedGpu | None = None) -> None:
        self.calls = 0
        self.played = played
        self.fails: Exception | None = None

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        if self.played and self.played.tape is not None and self.fails is not None:
            raise self.fails
        return values * 2


def apply(graphs: CudaGraphs, values: torch.Tensor) -> torch.Tensor:
    result = graphs(values)
    assert result.is_cuda
    return result.cpu()


def test_each_shape_is_recorded_once_and_replayed_on_new_values(played: PlayedGpu) -> None:
    double = Doubling()
    graphs = CudaGraphs(double, CUDA)
    for start in range(3):
        values = torch.arange(start, start + 4.0)
        assert torch.equal(apply(graphs, values), values * 2)
    assert (double.calls, played.num_replays) == (WARM_UPS + 1, 3)
    assert torch.equal(apply(graphs, torch.ones(2)), torch.full((2,), 2.0))
    assert (double.calls, played.num_replays) == (2 * (WARM_UPS + 1), 4)


def test_values_stay_as_they_are(gpu: None) -> None:
    graphs = CudaGraphs(Doubling(), CUDA)
    first, second = torch.ones(3, device=CUDA), torch.zeros(3, device=CUDA)
    graphs(first)
    graphs(second)
    assert torch.equal(first.cpu(), torch.ones(3))


def test_what_cannot_be_recorded_is_called_as_it_is(
    played: PlayedGpu, caplog: pytest.LogCaptureFixture
) -> None:
    double = Doubling(played)
    double.fails = RuntimeError("operation not permitted when capturing")
    graphs = CudaGraphs(double, CUDA)
    with caplog.at_level(logging.WARNING):
        for start in range(3):
            values = torch.arange(start, start + 4.0)
            assert torch.equal(apply(graphs, values), values * 2)
    assert played.num_replays == 0
    assert [r.message for r in caplog.records] == [
        "no CUDA graph, kernels are launched one by one: operation not permitted when capturing"
    ]


def test_what_asks_for_values_is_launched_kernel_by_kernel(gpu: None) -> None:
    def ask(values: torch.Tensor) -> torch.Tensor:
        return values * 2 if bool((values >= 0).all()) else -values

    graphs = CudaGraphs(ask, CUDA)
    for values in (torch.arange(4.0), -torch.arange(1.0, 5.0)):
        torch.testing.assert_close(apply(graphs, values), ask(values))


def test_too_little_memory_is_told_to_the_engine_which_takes_fewer_images(
    played: PlayedGpu,
) -> None:
    double = Doubling(played)
    double.fails = torch.OutOfMemoryError("CUDA out of memory")
    graphs = CudaGraphs(double, CUDA)
    with pytest.raises(torch.OutOfMemoryError):
        graphs(torch.ones(4))
    double.fails = None
    assert torch.equal(apply(graphs, torch.ones(2)), torch.full((2,), 2.0))
    assert (double.calls, played.num_replays) == (2 * (WARM_UPS + 1), 1)


def test_threads_that_take_pinned_memory_do_not_end_a_recording(
    played: PlayedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes = []
    record = torch.cuda.graph

    def note(graph: object, *, capture_error_mode: str) -> object:
        modes.append(capture_error_mode)
        return record(graph)

    monkeypatch.setattr(torch.cuda, "graph", note)
    CudaGraphs(Doubling(), CUDA)(torch.ones(2))
    assert modes == ["thread_local"]
