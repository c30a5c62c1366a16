"""Every kind of head and of training equals the plain loop, in float64, to its end."""

import dataclasses

import numpy as np
import pytest
import torch

from aml_mil.mil.engine import (
    FeatureScaling,
    ResidentBags,
    StackedHeads,
    StreamedTable,
    Training,
    Workspace,
    reduction,
    stack_parameters,
)
from aml_mil.mil.engine.packing import pack
from aml_mil.mil.head import HeadShape, initial_head
from tests.mil.cases import NUM_CLASSES, NUM_FEATURES, run_to_end, small_config, toy_features
from tests.mil.plain_loop import train_plainly

CPU = torch.device("cpu")
SIZES = np.random.default_rng(0).integers(1, 14, 12)
TARGETS = np.arange(12) % NUM_CLASSES


def _features(map_size=(), *, seed=0):
    """The toy's features; maps have them at every position, with noise of their own."""
    vectors = toy_features(SIZES, TARGETS, seed=seed)
    noise = np.random.default_rng(seed).normal(size=(*vectors.shape, *map_size)) / 2
    return vectors.reshape(*vectors.shape, *[1] * len(map_size)) / 5 + noise


def _bags(map_size=(), *, dtype=torch.float64, num_stores=1):
    return ResidentBags(
        [_features(map_size, seed=q) for q in range(num_stores)],
        offsets=np.concatenate([[0], np.cumsum(SIZES)]),
        targets=TARGETS,
        dtype=dtype,
        device=CPU,
    )


def _replicates(**values):
    from aml_mil.mil.engine import Replicate

    settings = {"store": 0, "train": np.arange(8), "validation": np.arange(8, 12)}
    return [Replicate(fold=f, seed=s, **settings | values) for f, s in ((0, 0), (0, 1), (1, 0))]


def _config(map_size=(), **values):
    settings = {"precision": "fp64", "epochs": 6, "patience": 3, "max_cells": 9, "lr": 0.1}
    if map_size:
        settings["widths"] = (10, 9, 8, 7)
    return small_config(**settings | values)


def _equals_the_plain_loop(config, bags, map_size=(), **replicate):
    shape = HeadShape.of(config, feature_shape=(NUM_FEATURES, *map_size), num_classes=NUM_CLASSES)
    _, heads = run_to_end(Training(_replicates(**replicate), bags, shape=shape, config=config))
    for head in heads:
        plain = train_plainly(head.replicate, bags, shape=shape, config=config)
        assert (head.best_epoch, head.last_epoch) == (plain.best_epoch, plain.last_epoch)
        state = plain.head.state_dict()
        assert set(state) == set(head.parameters)
        for name, value in state.items():
            torch.testing.assert_close(head.parameters[name], value, rtol=0, atol=1e-8)
    return heads


@pytest.mark.parametrize(
    "values",
    [
        {"attention": "shared"},
        {"attention": "gated"},
        {"pool": "mean", "attention_hidden": 128},
        {"pool": "max", "attention_hidden": 128},
        {"sampling": "natural"},
        {"dropout": 0.4},
        {"attention": "gated", "dropout": 0.2, "sampling": "natural", "accumulate": 3},
        {"widths": (11,)},
    ],
    ids=str,
)
def test_each_option_equals_the_plain_loop(values):
    heads = _equals_the_plain_loop(_config(**values), _bags())
    initial = initial_head(
        HeadShape.of(_config(**values), feature_shape=(NUM_FEATURES,), num_classes=NUM_CLASSES),
        seed=0,
    ).state_dict()
    assert set(heads[0].parameters) == set(initial)


@pytest.mark.parametrize("map_size", [(5, 5), (6, 5)], ids=str)
@pytest.mark.parametrize("values", [{}, {"pool": "max", "attention_hidden": 128}], ids=str)
def test_maps_equal_the_plain_loop(map_size, values, monkeypatch):
    monkeypatch.setattr(reduction, "BLOCK_ROWS", 300)  # several blocks a step
    config = _config(map_size, epochs=4, **values)
    _equals_the_plain_loop(config, _bags(map_size), map_size)


def test_each_option_trains_another_head():
    trained = {}
    for values in ({}, {"sampling": "natural"}, {"dropout": 0.4}, {"attention": "shared"}):
        config = _config(**values)
        shape = HeadShape.of(config, feature_shape=(NUM_FEATURES,), num_classes=NUM_CLASSES)
        _, heads = run_to_end(Training(_replicates(), _bags(), shape=shape, config=config))
        trained[str(values)] = heads[0].parameters["reduction.0.bias"]
    values = list(trained.values())
    assert all((a - b).abs().max() > 1e-6 for i, a in enumerate(values) for b in values[i + 1 :])


def test_a_scaling_of_maps_is_training_on_standardised_maps():
    map_size = (5, 5)
    bags, config = _bags(map_size), _config((5, 5), epochs=4)
    shape = HeadShape.of(config, feature_shape=(NUM_FEATURES, 5, 5), num_classes=NUM_CLASSES)
    features = _features(map_size)[0]
    scaling = FeatureScaling.of(features.mean(axis=0), features.std(axis=0))
    np.testing.assert_allclose(scaling.mean, features.mean(axis=(0, 2, 3)))
    np.testing.assert_allclose(scaling.sd, features.std(axis=(0, 2, 3)))
    scaled = [dataclasses.replace(r, scaling=scaling) for r in _replicates()]
    _, heads = run_to_end(Training(scaled, bags, shape=shape, config=config))
    standardised = _bags(map_size)
    cells = standardised.table.cells[..., :NUM_FEATURES]
    cells.copy_((cells - torch.from_numpy(scaling.mean)) / torch.from_numpy(scaling.sd))
    for head in heads:
        plain = train_plainly(head.replicate, standardised, shape=shape, config=config)
        state = plain.head.state_dict()
        assert head.best_epoch == plain.best_epoch
        for name in ("reduction.1.weight", "attention_score.weight", "classifier_logit.bias"):
            torch.testing.assert_close(head.parameters[name], state[name], rtol=0, atol=1e-8)


@pytest.mark.parametrize("map_size", [(), (5, 5)], ids=str)
def test_a_table_left_in_the_hosts_memory_trains_the_same_heads(map_size, monkeypatch):
    config = _config(map_size, precision="fp32", epochs=3)
    shape = HeadShape.of(config, feature_shape=(NUM_FEATURES, *map_size), num_classes=NUM_CLASSES)
    trained = []
    for memory_share in (0.5, 0.0):
        monkeypatch.setattr("aml_mil.mil.engine.table.MEMORY_SHARE", memory_share)
        bags = _bags(map_size, dtype=torch.float32, num_stores=2)
        assert isinstance(bags.table, StreamedTable) == (memory_share == 0)
        replicates = [*_replicates(), *_replicates(store=1)]
        trained.append(run_to_end(Training(replicates, bags, shape=shape, config=config))[1])
    for resident, streamed in zip(*trained, strict=True):
        for name, value in resident.parameters.items():
            assert torch.equal(value, streamed.parameters[name])


@pytest.mark.parametrize("map_size", [(), (5, 5)], ids=str)
@pytest.mark.parametrize("pool", ["attention", "mean", "max"])
def test_matrix_products_do_not_grow_in_number_with_the_replicates(pool, map_size):
    config = _config(map_size, pool=pool, attention_hidden=128)
    shape = HeadShape.of(config, feature_shape=(NUM_FEATURES, *map_size), num_classes=NUM_CLASSES)
    bags = _bags(map_size)
    counts = []
    for replicates in (1, 9):
        heads = [initial_head(shape, seed=0).double().state_dict()] * replicates
        stack = StackedHeads(
            stack_parameters(heads, dtype=torch.float64, device=CPU),
            shape=shape,
            table=bags.table,
            workspace=Workspace(CPU),
        )
        packed = pack([bags.whole(np.arange(4), store=0)] * replicates, device=CPU)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU],
            acc_events=True,  # else torch 2.11 warns
        ) as profile:
            stack.step(packed)
        products = ("aten::bmm", "aten::baddbmm", "aten::baddbmm_", "aten::mm", "aten::addmm")
        counts.append(sum(e.count for e in profile.key_averages() if e.key in products))
    assert counts[0] > 0
    assert counts[0] == counts[1]
