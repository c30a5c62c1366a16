"""One forward and backward pass of the stack against the plain head and autograd."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from aml_mil.mil.engine.network import StackedHeads
from aml_mil.mil.engine.packing import pack
from aml_mil.mil.engine.resident import BagRows
from aml_mil.mil.engine.table import make_table
from aml_mil.mil.engine.training import stack_parameters
from aml_mil.mil.engine.workspace import Workspace
from aml_mil.mil.head import Head, initial_head
from tests.mil.cases import NUM_CLASSES, NUM_FEATURES, SMALL_SHAPE

CPU = torch.device("cpu")


def _case(sizes_by_replicate, *, seed=0):
    rng = np.random.default_rng(seed)
    table = torch.from_numpy(rng.normal(size=(200, NUM_FEATURES)))
    bags = [
        BagRows(
            rows=rng.integers(200, size=int(np.sum(sizes))),
            sizes=np.array(sizes, dtype=np.int64),
            targets=rng.integers(NUM_CLASSES, size=len(sizes)),
        )
        for sizes in sizes_by_replicate
    ]
    heads = [initial_head(SMALL_SHAPE, seed=r).double() for r in range(len(bags))]
    stacked = stack_parameters([h.state_dict() for h in heads], dtype=torch.float64, device=CPU)
    return table, bags, heads, stacked


def _heads(stacked, table, *, dtype=torch.float64):
    features = [table.numpy()[None]]
    resident = make_table(features, dtype=dtype, device=CPU)
    return StackedHeads(stacked, shape=SMALL_SHAPE, table=resident, workspace=Workspace(CPU))


def _bag_slices(bags: BagRows):
    ends = np.cumsum(bags.sizes)
    return [slice(e - s, e) for s, e in zip(bags.sizes, ends, strict=True)]


sizes_of_replicates = st.lists(
    st.lists(st.integers(1, 12), min_size=0, max_size=4), min_size=1, max_size=4
).filter(lambda replicates: any(replicates))


@settings(max_examples=40, deadline=None)
@given(sizes=sizes_of_replicates)
def test_losses_and_gradients_are_those_of_each_head_alone(sizes):
    table, bags, heads, stacked = _case(sizes)
    result = _heads(stacked, table).step(pack(bags, device=CPU))
    for r, (own, head) in enumerate(zip(bags, heads, strict=True)):
        total = torch.zeros((), dtype=torch.float64)
        for i, cells in enumerate(_bag_slices(own)):
            logits = head(table[torch.from_numpy(own.rows[cells])]).logits
            loss = cross_entropy(logits, torch.tensor(own.targets[i]))
            torch.testing.assert_close(result.losses[r, i], loss.detach())
            total = total + loss
        assert (result.losses[r, len(own.sizes) :] == 0).all()
        if len(own.sizes):
            total.backward()
        for name, parameter in head.named_parameters():
            expected = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            torch.testing.assert_close(result.gradients[name][r], expected)


@settings(max_examples=20, deadline=None)
@given(sizes=sizes_of_replicates)
def test_predictions_are_those_of_each_head_alone(sizes):
    table, bags, heads, stacked = _case(sizes)
    output = _heads(stacked, table).predict(pack(bags, device=CPU))
    for r, (own, head) in enumerate(zip(bags, heads, strict=True)):
        for i, cells in enumerate(_bag_slices(own)):
            expected = head(table[torch.from_numpy(own.rows[cells])])
            torch.testing.assert_close(output.logits[r, i], expected.logits.detach())
            torch.testing.assert_close(output.scores[r, cells], expected.scores.detach())


def test_matrix_products_do_not_grow_in_number_with_the_replicates():
    counts = []
    for replicates in (1, 12):
        table, bags, _, stacked = _case([[5, 9, 7]] * replicates)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU],
            acc_events=True,  # else torch 2.11 warns
        ) as profile:
            _heads(stacked, table).step(pack(bags, device=CPU))
        products = ("aten::bmm", "aten::baddbmm", "aten::baddbmm_", "aten::mm", "aten::addmm")
        counts.append(sum(e.count for e in profile.key_averages() if e.key in products))
    assert counts[0] > 0
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", [name for name, _ in Head(SMALL_SHAPE).named_parameters()])
def test_every_parameter_gets_a_gradient(name):
    table, bags, _, stacked = _case([[5, 9], [4, 4]])
    result = _heads(stacked, table).step(pack(bags, device=CPU))
    if name == "attention_score.bias":  # a softmax does not see a shift of all its inputs
        assert result.gradients[name].abs().max() < 1e-15
    else:
        assert (result.gradients[name].flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize("shrink", [1, 2**-30])
def test_fp16_gradients_are_float32s_however_small(shrink):
    """A sure head's gradients are far below what fp16 can tell from 0."""
    table, bags, _, stacked = _case([[90, 70], [100]])
    stacked = {name: values.float() for name, values in stacked.items()}
    stacked["classifier_logit.weight"] *= shrink  # the gradients before it shrink with it
    packed = pack(bags, device=CPU)
    expected = _heads(stacked, table, dtype=torch.float32).step(packed).gradients
    found = _heads(stacked, table, dtype=torch.float16).step(packed).gradients
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        norms = values.flatten(1).norm(dim=1)
        errors = (found[name] - values).flatten(1).norm(dim=1)
        assert found[name].dtype == torch.float32
        assert (errors <= 0.1 * norms + 1e-9 * shrink).all(), name
        assert name == "attention_score.bias" or (norms > 0).all()
