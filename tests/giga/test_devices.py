"""Learning patients on a GPU, played or real."""

import pytest
import torch

from tests.giga.cases import bags_of, finish, small_run, toy_patients

CUDA = torch.device("cuda")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_patients(tmp_path_factory.mktemp("toy") / "toy.zarr", located=True)


@pytest.mark.parametrize("kind", ["set", "sparse"])
def test_losses_on_a_gpu_are_the_cpus_and_a_cut_run_goes_on(gpu, store, tmp_path, kind):
    on_cpu = finish(small_run(bags_of(store), tmp_path / "cpu.safetensors", encoder=kind))
    bags = bags_of(store, device=CUDA)
    settings = {"encoder": kind, "device": "cuda"}
    cut = small_run(bags, tmp_path / "cuda.safetensors", **settings)
    *_, last = cut.train(lambda: cut.steps_done == 3)
    assert last.is_stopped
    resumed = finish(small_run(bags, tmp_path / "cuda.safetensors", is_resumed=True, **settings))
    for ours, theirs in zip(resumed.records[1:], on_cpu.records[1:], strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)


def test_no_step_waits_for_the_gpu(played, store, tmp_path):
    """Sparse convolutions do: how many squares are left only the GPU knows."""
    bags = bags_of(store, device=CUDA)
    run = small_run(bags, tmp_path / "a.safetensors", encoder="set", device="cuda")
    run.step(run.next_sets())
    del played.waits[:]
    for _ in range(3):
        output = run.step(run.next_sets())
    assert output.loss.is_cuda
    assert not played.waits
