"""The engine against the plain loop, and what must not change a replicate."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch

from aml_mil.mil.engine import FeatureScaling, ResidentBags, Training, reduction
from aml_mil.mil.engine.optimiser import StackedSGD
from aml_mil.mil.errors import DivergedError
from tests.mil.cases import (
    NUM_CLASSES,
    NUM_FEATURES,
    SMALL_SHAPE,
    run_to_end,
    small_config,
    toy_bags,
    toy_replicates,
)
from tests.mil.plain_loop import plain_cells, train_plainly


def _difference(first, second):
    return max((first[name] - second[name]).abs().max().item() for name in second)


@pytest.fixture(scope="module")
def whole_run():
    """All replicates to their end in float64, by the engine."""
    bags = toy_bags(dtype=torch.float64, num_stores=3)
    replicates = toy_replicates(bags, per_fold_stores=True)
    config = small_config(precision="fp64")
    records, heads = run_to_end(Training(replicates, bags, shape=SMALL_SHAPE, config=config))
    return bags, config, records, heads


def test_each_replicate_equals_the_plain_loop_for_the_whole_run(whole_run):
    bags, config, records, heads = whole_run
    last_epochs = set()
    for head in heads:
        plain = train_plainly(head.replicate, bags, shape=SMALL_SHAPE, config=config)
        own = [r for r in records if (r.fold, r.seed) == (head.replicate.fold, head.replicate.seed)]
        assert (head.best_epoch, head.last_epoch) == (plain.best_epoch, plain.last_epoch)
        assert _difference(head.parameters, plain.head.state_dict()) < 1e-8
        np.testing.assert_allclose([r.train_loss for r in own], plain.train_losses, rtol=1e-8)
        np.testing.assert_allclose([r.val_loss for r in own], plain.val_losses, rtol=1e-8)
        last_epochs.add(head.last_epoch)
    assert len(last_epochs) > 1  # replicates left the stack while others went on


def test_training_learns(whole_run):
    *_, records, _ = whole_run
    assert records[0].val_loss > 0.9
    assert min(r.val_loss for r in records) < 0.3 * np.log(NUM_CLASSES)


def test_float32_equals_the_plain_loop_for_five_epochs():
    bags = toy_bags(dtype=torch.float32)
    config = small_config(precision="fp32", epochs=5)
    _, heads = run_to_end(Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config))
    for head in heads:
        plain = train_plainly(head.replicate, bags, shape=SMALL_SHAPE, config=config)
        assert head.best_epoch == plain.best_epoch
        assert _difference(head.parameters, plain.head.state_dict()) < 1e-5


def test_company_in_the_stack_changes_nothing(whole_run):
    bags, config, records, heads = whole_run
    chosen = heads[3]
    alone_records, (alone,) = run_to_end(
        Training([chosen.replicate], bags, shape=SMALL_SHAPE, config=config)
    )
    own = [r for r in records if (r.fold, r.seed) == (chosen.replicate.fold, chosen.replicate.seed)]
    assert alone.best_epoch == chosen.best_epoch
    assert len(own) == len(alone_records)
    assert _difference(chosen.parameters, alone.parameters) < 1e-8


def test_chunks_of_cells_change_nothing(whole_run, monkeypatch):
    bags, _, _, heads = whole_run
    config = small_config(precision="fp64", epochs=3)
    replicates = [h.replicate for h in heads]
    _, whole = run_to_end(Training(replicates, bags, shape=SMALL_SHAPE, config=config))
    monkeypatch.setattr(reduction, "BLOCK_ROWS", 70)
    _, chunked = run_to_end(Training(replicates, bags, shape=SMALL_SHAPE, config=config))
    for a, b in zip(whole, chunked, strict=True):
        assert _difference(a.parameters, b.parameters) < 1e-10


def test_order_of_cells_changes_nothing(whole_run):
    bags, _, _, heads = whole_run
    # Without a cap on the cells, and with equal views, every draw has the same cells.
    config = small_config(precision="fp64", epochs=4, max_cells=1000)
    rng = np.random.default_rng(1)
    identity = plain_cells(bags, SMALL_SHAPE)[: bags.offsets[-1]].numpy()
    order = np.concatenate([rng.permutation(np.arange(a, b)) for a, b in pairwise(bags.offsets)])
    results = []
    for features in (identity, identity[order]):
        same_views = ResidentBags(
            [np.broadcast_to(features, (4, *features.shape))],
            offsets=bags.offsets,
            targets=bags.targets,
            dtype=torch.float64,
            device=torch.device("cpu"),
        )
        replicates = [dataclasses.replace(h.replicate, store=0) for h in heads[:3]]
        _, trained = run_to_end(Training(replicates, same_views, shape=SMALL_SHAPE, config=config))
        results.append(trained)
    for a, b in zip(*results, strict=True):
        assert _difference(a.parameters, b.parameters) < 1e-10


def test_two_runs_are_bit_equal():
    config = small_config(epochs=4)
    runs = []
    for _ in range(2):
        bags = toy_bags(dtype=torch.float32)
        runs.append(
            run_to_end(Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config))
        )
    assert runs[0][0] == runs[1][0]
    for a, b in zip(runs[0][1], runs[1][1], strict=True):
        assert all(torch.equal(a.parameters[n], b.parameters[n]) for n in a.parameters)


def test_four_bags_are_overfitted():
    bags = toy_bags(num_bags=6, dtype=torch.float32)
    replicate = toy_replicates(bags)[0]
    replicate = dataclasses.replace(
        replicate, train=np.array([0, 1, 3, 5]), validation=np.array([0, 1, 3, 5])
    )
    records, _ = run_to_end(
        Training(
            [replicate],
            bags,
            shape=SMALL_SHAPE,
            config=small_config(epochs=60, patience=60, accumulate=1, lr=0.05),
        )
    )
    assert records[0].val_loss > 0.9
    assert min(r.val_loss for r in records) < 0.01


def test_patience_ends_a_replicate_and_keeps_its_best_weights(whole_run):
    _, config, records, heads = whole_run
    stopped = [h for h in heads if h.last_epoch < config.epochs - 1]
    assert stopped
    for head in stopped:
        own = [
            r.val_loss
            for r in records
            if (r.fold, r.seed) == (head.replicate.fold, head.replicate.seed)
        ]
        assert head.best_epoch == int(np.argmin(own))
        assert head.last_epoch - head.best_epoch == config.patience


@pytest.mark.parametrize(("half", "half_dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_losses_of_16_bit_products_stay_close_to_float32(half, half_dtype):
    losses = {}
    for precision, dtype in (("fp32", torch.float32), (half, half_dtype)):
        bags = toy_bags(dtype=dtype)
        config = small_config(precision=precision, epochs=3)
        records, heads = run_to_end(
            Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config)
        )
        assert all(p.dtype == torch.float32 for h in heads for p in h.parameters.values())
        losses[precision] = np.array([r.val_loss for r in records])
    assert np.abs(losses[half] - losses["fp32"]).max() < 0.02
    assert (losses[half] != losses["fp32"]).any()


def test_a_replicate_that_diverges_keeps_its_best_epoch_and_leaves_the_others_alone(monkeypatch):
    bags = toy_bags(dtype=torch.float64)
    replicates = toy_replicates(bags)
    config = small_config(precision="fp64", epochs=6)
    _, alone = run_to_end(Training(replicates[1:], bags, shape=SMALL_SHAPE, config=config))
    step = StackedSGD.step

    def step_and_spoil(self, gradients, **rest):
        step(self, gradients, **rest)
        steps.append(gradients)
        if len(steps) == 8:
            self._parameters["attention_score.bias"][0] = float("nan")

    steps = []
    monkeypatch.setattr(StackedSGD, "step", step_and_spoil)
    records, heads = run_to_end(Training(replicates, bags, shape=SMALL_SHAPE, config=config))
    assert [h.has_diverged for h in heads] == [True] + [False] * (len(heads) - 1)
    assert 0 <= heads[0].best_epoch < heads[0].last_epoch < config.epochs - 1
    assert all(torch.isfinite(p).all() for p in heads[0].parameters.values())
    assert sum(np.isnan(r.val_loss) for r in records) == 1
    for head, other in zip(heads[1:], alone, strict=True):
        assert _difference(head.parameters, other.parameters) < 1e-12


def test_a_scaling_is_training_on_standardised_features():
    """By the plain loop on the standardised table, one scaling per replicate, to the end."""
    bags = toy_bags(dtype=torch.float64)
    bags.table.cells[..., 3] = 7.5  # constant
    bags.table.cells[..., 5] *= 100
    config = small_config(precision="fp64", lr=0.05)
    for replicate in toy_replicates(bags)[:2]:
        rows = torch.from_numpy(bags.whole(replicate.train, store=0).rows)
        cells = plain_cells(bags, SMALL_SHAPE)[rows]
        mean, sd = cells.mean(dim=0), cells.std(dim=0, correction=0)
        scaled = dataclasses.replace(
            replicate, scaling=FeatureScaling(mean=mean.numpy(), sd=sd.numpy())
        )
        (_, (head,)) = run_to_end(Training([scaled], bags, shape=SMALL_SHAPE, config=config))
        standardised = toy_bags(dtype=torch.float64)
        every = plain_cells(bags, SMALL_SHAPE)
        scaled_cells = torch.where(sd > 1e-9, (every - mean) / sd.clamp_min(1e-9), 0.0)
        standardised.table.cells[:, 0, :NUM_FEATURES] = scaled_cells
        plain = train_plainly(replicate, standardised, shape=SMALL_SHAPE, config=config)
        assert (head.best_epoch, head.last_epoch) == (plain.best_epoch, plain.last_epoch)
        folded = {name: p for name, p in head.parameters.items() if "reduction.0" not in name}
        state = plain.head.state_dict()
        assert _difference(state, folded) < 1e-8
        weight, bias = head.parameters["reduction.0.weight"], head.parameters["reduction.0.bias"]
        ours = cells @ weight.T + bias
        theirs = scaled_cells[rows] @ state["reduction.0.weight"].T + state["reduction.0.bias"]
        assert (ours - theirs).abs().max() < 1e-8
        assert (weight[:, 3] == 0).all()


def test_a_standardised_feature_that_hardly_varies_is_constant_to_fp16():
    losses = {}
    for precision, dtype in (("fp32", torch.float32), ("fp16", torch.float16)):
        bags = toy_bags(dtype=dtype)
        bags.table.cells[..., 3] = 0
        bags.table.cells[:2, :, 3] = 6e-8  # as dying units of a network leave them
        cells = plain_cells(bags, SMALL_SHAPE).double()
        scaling = FeatureScaling(mean=cells.mean(dim=0).numpy(), sd=cells.std(dim=0).numpy())
        assert 0 < scaling.sd[3] < 1e-8
        scaled = dataclasses.replace(toy_replicates(bags)[0], scaling=scaling)
        config = small_config(precision=precision, lr=0.05)
        records, (head,) = run_to_end(Training([scaled], bags, shape=SMALL_SHAPE, config=config))
        losses[precision] = np.array([(r.train_loss, r.val_loss) for r in records])
    np.testing.assert_allclose(losses["fp16"], losses["fp32"], rtol=0, atol=0.003)
    weight = head.parameters["reduction.0.weight"]
    assert [(weight[:, feature] == 0).all() for feature in (3, 5)] == [True, False]


def test_a_weight_that_fp16_cannot_hold_is_divergence(monkeypatch):
    step = StackedSGD.step

    def step_and_spoil(self, gradients, **rest):
        step(self, gradients, **rest)
        self._parameters["reduction.0.weight"][1, 0, 0] = 7e4

    monkeypatch.setattr(StackedSGD, "step", step_and_spoil)
    bags = toy_bags(dtype=torch.float16)
    config = small_config(precision="fp16")
    training = Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=config)
    with pytest.raises(DivergedError, match="infinite weights in epoch 0 of fold 0, seed 1"):
        run_to_end(training)


def test_a_loss_that_is_not_finite_at_the_start_names_the_replicate():
    bags = toy_bags(dtype=torch.float32)
    training = Training(toy_replicates(bags), bags, shape=SMALL_SHAPE, config=small_config(lr=1e12))
    with pytest.raises(DivergedError, match=r"fold \d, seed \d; lower the learning rate"):
        run_to_end(training)
