"""Pre-training on a GPU, played or real."""

from pathlib import Path

import pytest
import torch

from aml_mil.ssl.method import RunLength
from aml_mil.ssl.methods import CONFIGS, build_method
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.pretrain import PretrainRun
from aml_mil.ssl.trainer import Trainer
from tests.played_gpu import PlayedGpu
from tests.ssl.runs import finish, small_config

CUDA = torch.device("cuda")
METHODS = tuple(CONFIGS)
BATCH_SIZE, SIDE_PX = 8, 32


@pytest.mark.parametrize("method", METHODS)
def test_no_step_waits_for_the_gpu(method: str, played: PlayedGpu) -> None:
    config = small_config(method)
    network = build_method(config, RunLength(epochs=3, steps_per_epoch=3), num_types=3)
    trainer = Trainer(network, device=CUDA, precision="fp32")
    shape = (BATCH_SIZE, SIDE_PX, SIDE_PX, 3)
    crops = [
        torch.randint(256, shape, dtype=torch.uint8).pin_memory()
        for _ in range(len(network.views()))
    ]
    targets = torch.zeros(BATCH_SIZE, dtype=torch.int64).pin_memory()
    for step in range(9):
        if step == 3:  # SwAV counts the rows of its queue until it is full
            del played.waits[:]
        output = trainer.step(crops, targets, step=step)
        assert output.loss.is_cuda
    assert not played.waits


@pytest.mark.parametrize(
    ("method", "precision"),
    [
        # The CPU's kernels, which a played GPU computes by, are slow in fp16.
        pytest.param("supervised", "fp16"),
        *(
            pytest.param(method, precision, marks=pytest.mark.gpu)
            for method in METHODS
            for precision in ("fp16", "bf16")
        ),
    ],
)
def test_a_gpu_trains_in_half_precision_and_goes_on_after_an_interruption(
    method: str,
    precision: str,
    pool: ImagePool,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    if request.node.get_closest_marker("gpu") is None:
        request.getfixturevalue("played")
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


@pytest.mark.parametrize("method", METHODS)
def test_the_first_loss_on_a_gpu_is_the_cpus(
    gpu: None, method: str, pool: ImagePool, tmp_path: Path
) -> None:
    losses = {}
    for device in (torch.device("cpu"), CUDA):
        config = small_config(method, epochs=1, device=device.type)
        run = PretrainRun(pool, config, tmp_path / f"{device.type}.safetensors", device=device)
        losses[device.type] = finish(run).records[-1].loss
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=1e-2)
