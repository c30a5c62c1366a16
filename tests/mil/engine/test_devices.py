"""The engine on a GPU, played or real."""

import itertools

import numpy as np
import pytest
import torch

from aml_mil.mil.engine import FeatureScaling, Replicate, ResidentBags, Training
from aml_mil.mil.engine.table import StreamedTable
from aml_mil.mil.head import HeadShape
from aml_mil.mil.program import TABLE_DTYPES
from tests.mil.cases import SMALL_SHAPE, run_to_end, small_config, toy_bags, toy_replicates

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
NUM_BAGS, NUM_CELLS, NUM_FEATURES = 6, 7, 24
OPTIONS = list(
    itertools.product(
        ("fp32", "bf16", "fp16"),
        (0, 5),
        (("attention", "class"), ("attention", "gated"), ("mean", "class"), ("max", "class")),
        (False, True),
    )
)


def make_features(side):
    shape = (NUM_FEATURES, side, side) if side else (NUM_FEATURES,)
    rng = np.random.default_rng(0)
    return rng.standard_normal((2, NUM_BAGS * NUM_CELLS, *shape)).astype(np.float16)


def make_bags(side, dtype):
    return ResidentBags(
        [make_features(side)],
        offsets=np.arange(NUM_BAGS + 1) * NUM_CELLS,
        targets=np.arange(NUM_BAGS) % 3,
        dtype=dtype,
        device=CUDA,
    )


@pytest.mark.parametrize(("precision", "side", "heads", "has_extras"), OPTIONS)
def test_no_operand_is_left_on_the_cpu_and_no_step_waits(
    played, precision, side, heads, has_extras
):
    pool, attention = heads
    bags = make_bags(side, TABLE_DTYPES[precision])
    shape = HeadShape(
        feature_shape=(NUM_FEATURES, side, side) if side else (NUM_FEATURES,),
        num_classes=3,
        widths=(8, 8, 8, 8),
        pool=pool,
        attention=attention,
    )
    mean = np.zeros(shape.feature_shape)
    scaling = FeatureScaling.of(mean, mean + 1) if has_extras else None
    replicates = [
        Replicate(
            fold=fold,
            seed=0,
            store=0,
            train=np.arange(4 - fold),  # in the last steps of an epoch, one has no bags left
            validation=np.array([4, 5]),
            scaling=scaling,
        )
        for fold in range(2)
    ]
    config = small_config(
        dropout=0.3 if has_extras else 0.0, accumulate=1, precision=precision, epochs=2
    )
    training = Training(replicates, bags, shape=shape, config=config)
    training.run_epoch()
    del played.waits[:]
    training._train(lr=0.1)
    assert len(played.waits) == 1, "for the losses of all steps"


def test_a_whole_run_on_a_gpu_in_float64_is_the_cpus(gpu):
    config = small_config(precision="fp64")
    found = {}
    for device in (CPU, CUDA):
        bags = toy_bags(dtype=torch.float64, device=device)
        training = Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config)
        found[device.type] = run_to_end(training)[1]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert (ours.best_epoch, ours.last_epoch) == (theirs.best_epoch, theirs.last_epoch)
        for name, value in theirs.parameters.items():
            torch.testing.assert_close(ours.parameters[name], value, rtol=0, atol=1e-8)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_in_every_precision(gpu, precision):
    bags = toy_bags(dtype=TABLE_DTYPES[precision], device=CUDA)
    config = small_config(precision=precision)
    training = Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config)
    records, _ = run_to_end(training)
    assert min(r.val_loss for r in records) < 0.3 * np.log(3)


@pytest.mark.parametrize("side", [0, 5])
def test_cells_streamed_to_a_gpu_are_those_that_lie_there(gpu, side):
    bags = make_bags(side, torch.bfloat16)
    streamed = StreamedTable([make_features(side)], dtype=torch.bfloat16, device=CUDA)
    rows = torch.randint(0, 2 * NUM_BAGS * NUM_CELLS, (3, 16), device=CUDA)
    size = (3, 16 * streamed.num_positions, streamed.width)
    found, expected = (torch.empty(size, dtype=torch.bfloat16, device=CUDA) for _ in "ab")
    streamed.gather(rows, out=found)
    bags.table.gather(rows, out=expected)
    assert torch.equal(found, expected)
