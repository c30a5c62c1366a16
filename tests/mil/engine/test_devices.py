"""The engine on a GPU: what can be seen without one, and what cannot."""

import itertools

import numpy as np
import pytest
import torch

from aml_mil.mil.engine import FeatureScaling, Replicate, ResidentBags, Training, table
from aml_mil.mil.engine.packing import pack
from aml_mil.mil.engine.table import StreamedTable
from aml_mil.mil.head import HeadShape
from aml_mil.mil.program import TABLE_DTYPES
from aml_mil.mil.sampling import CellDropout
from tests.mil.cases import SMALL_SHAPE, run_to_end, small_config, toy_bags, toy_replicates
from tests.no_gpu import CUDA, pretended_gpu

NUM_BAGS, NUM_CELLS, NUM_FEATURES = 6, 7, 24
OPTIONS = list(
    itertools.product(
        (torch.float32, torch.bfloat16, torch.float16),
        (0, 5),
        (("attention", "class"), ("attention", "gated"), ("mean", "class"), ("max", "class")),
        (False, True),
    )
)


def make_bags(side, dtype):
    shape = (NUM_FEATURES, side, side) if side else (NUM_FEATURES,)
    rng = np.random.default_rng(0)
    return ResidentBags(
        [rng.standard_normal((2, NUM_BAGS * NUM_CELLS, *shape)).astype(np.float16)],
        offsets=np.arange(NUM_BAGS + 1) * NUM_CELLS,
        targets=np.arange(NUM_BAGS) % 3,
        dtype=dtype,
        device=CUDA,
    )


@pytest.fixture
def no_kernels(monkeypatch):
    """Stand in for what pretended tensors cannot do."""

    def zeros(_, inputs):
        return [torch.zeros_like(values) for values in inputs]

    def check(parameters, gradients, velocities, **_):
        assert {t.device.type for t in (*parameters, *gradients, *velocities)} == {"cuda"}

    monkeypatch.setattr(torch.autograd, "grad", zeros)
    monkeypatch.setattr(torch, "_fused_sgd_", check)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self)
    monkeypatch.setattr(table, "memory_bytes", lambda device: 2**40)


@pytest.mark.parametrize(("dtype", "side", "heads", "has_extras"), OPTIONS)
def test_no_operand_of_a_step_or_a_validation_is_left_on_the_cpu(
    no_kernels, dtype, side, heads, has_extras
):
    pool, attention = heads
    with pretended_gpu():
        bags = make_bags(side, dtype)
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
                train=np.arange(4),
                validation=np.array([4, 5]),
                scaling=scaling,
            )
            for fold in range(2)
        ]
        config = small_config(dropout=0.3 if has_extras else 0.0)
        training = Training(replicates, bags, shape=shape, config=config)
        draws = [training._draw(r) for r in replicates]
        dropouts = [CellDropout(0.3, seed=0, fold=f, epoch=0) for f in range(2) if has_extras]
        for last in (3, 0):  # in the last step of an epoch, some replicates have no bags left
            taken = [draws[0].take(0, 3), draws[1].take(0, last)]
            packed = pack(taken, device=CUDA)
            dropout = training._draw_dropout(dropouts, packed)
            step = training._heads.step(packed, dropout=dropout)
            assert step.losses.device.type == "cuda"
            training._step(step.gradients, lr=0.1, stepping=np.array([True, last > 0]))
        for _, logits, scores in training._validation._outputs(training._heads):
            assert {logits.device.type, scores.device.type} == {"cuda"}


@pytest.mark.gpu
def test_a_whole_run_on_a_gpu_in_float64_is_the_cpus():
    config = small_config(precision="fp64")
    found = {}
    for device in (torch.device("cpu"), CUDA):
        bags = toy_bags(dtype=torch.float64, device=device)
        training = Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config)
        found[device.type] = run_to_end(training)[1]
    for ours, theirs in zip(found["cuda"], found["cpu"], strict=True):
        assert (ours.best_epoch, ours.last_epoch) == (theirs.best_epoch, theirs.last_epoch)
        for name, value in theirs.parameters.items():
            torch.testing.assert_close(ours.parameters[name], value, rtol=0, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_in_every_precision(precision):
    dtype = TABLE_DTYPES[precision]
    bags = toy_bags(dtype=dtype, device=CUDA)
    config = small_config(precision=precision)
    training = Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config)
    records, _ = run_to_end(training)
    assert min(r.val_loss for r in records) < 0.3 * np.log(3)


@pytest.mark.gpu
@pytest.mark.parametrize("side", [0, 5])
def test_cells_streamed_to_a_gpu_are_those_that_lie_there(side):
    bags = make_bags(side, torch.bfloat16)
    rng = np.random.default_rng(0)
    shape = (NUM_FEATURES, side, side) if side else (NUM_FEATURES,)
    features = rng.standard_normal((2, NUM_BAGS * NUM_CELLS, *shape)).astype(np.float16)
    streamed = StreamedTable([features], dtype=torch.bfloat16, device=CUDA)
    rows = torch.randint(0, 2 * NUM_BAGS * NUM_CELLS, (3, 16), device=CUDA)
    size = (3, 16 * streamed.num_positions, streamed.width)
    found, expected = (torch.empty(size, dtype=torch.bfloat16, device=CUDA) for _ in "ab")
    streamed.gather(rows, out=found)
    bags.table.gather(rows, out=expected)
    assert torch.equal(found, expected)
