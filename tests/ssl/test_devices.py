"""Pre-training on a GPU: what can be seen without one, and what cannot."""

from pathlib import Path

import pytest
import torch

from aml_mil.ssl.method import RunLength
from aml_mil.ssl.methods import CONFIGS, build_method
from aml_mil.ssl.monitor import PixelNorm
from aml_mil.ssl.optimiser import LayerwiseOptimiser
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.pretrain import PretrainRun
from tests.no_gpu import CUDA, pretend_to_move, pretended_gpu
from tests.ssl.runs import finish, small_config

METHODS = tuple(CONFIGS)
BATCH_SIZE, SIDE_PX = 8, 32


@pytest.mark.parametrize("method", METHODS)
def test_no_operand_of_a_step_is_left_on_the_cpu(method: str) -> None:
    changes = {"queue_length": 0} if method == "swav" else {}  # it counts its rows by value
    config = small_config(method, **changes)
    network = build_method(config, RunLength(epochs=3, steps_per_epoch=3), num_types=3)
    with pretended_gpu():
        pretend_to_move(network)
        optimiser = LayerwiseOptimiser(network)
        shape = (BATCH_SIZE, SIDE_PX, SIDE_PX, 3)
        crops = [
            torch.empty(shape, dtype=torch.uint8, device=CUDA) for _ in range(len(network.views()))
        ]
        targets = torch.zeros(BATCH_SIZE, dtype=torch.int64, device=CUDA)
        normalise = PixelNorm(CUDA)
        for step in (0, 8):
            network.before_step(step)
            output = network([normalise(crop) for crop in crops], targets)
            assert output.loss.device.type == "cuda"
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.grad = torch.zeros_like(parameter)
            network.before_update(step)
            optimiser.step(network.values_at(step))
            network.after_update(step)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_trains_in_half_precision_and_goes_on_after_an_interruption(
    method: str, precision: str, pool: ImagePool, tmp_path: Path
) -> None:
    config = small_config(method, precision=precision, device="cuda", epochs=6)
    whole = finish(PretrainRun(pool, config, tmp_path / "whole.safetensors", device=CUDA))
    cut = PretrainRun(pool, config, tmp_path / "cut.safetensors", device=CUDA)
    records = list(cut.train(lambda: cut.steps_done == 7))
    assert records[-1].is_stopped
    resumed = finish(
        PretrainRun(pool, config, tmp_path / "cut.safetensors", device=CUDA, is_resumed=True)
    )
    assert len(resumed.records) == len(whole.records)
    for ours, theirs in zip(resumed.records[1:], whole.records[1:], strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=2e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_the_first_loss_on_a_gpu_is_the_cpus(method: str, pool: ImagePool, tmp_path: Path) -> None:
    losses = {}
    for device in (torch.device("cpu"), CUDA):
        config = small_config(method, epochs=1, device=device.type)
        run = PretrainRun(pool, config, tmp_path / f"{device.type}.safetensors", device=device)
        losses[device.type] = finish(run).records[-1].loss
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-2)
