"""Runs: they resume, raise alarms, refuse what cannot work, and say what they have seen."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from safetensors.torch import load_file

from aml_mil.giga.checkpoint import load_giga
from aml_mil.giga.config import GigaConfig
from aml_mil.giga.errors import CoordsMissingError, GigaError, TooFewPatientsError
from aml_mil.giga.network import build_encoder
from aml_mil.giga.shape import choose_shape, measure_scale, nearest_neighbour_distance
from aml_mil.giga.training import Contrast, GigaTrainer
from aml_mil.ranks import num_ranks, rank, sum_over_ranks
from aml_mil.ssl.errors import DivergedError, ResumeError
from aml_mil.ssl.method import RunLength
from stores import open_store
from tests.giga.cases import CPU, SMALL, bags_of, finish, small_run, toy_patients, write_patients

KINDS = ["set", "sparse"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_patients(tmp_path_factory.mktemp("toy") / "toy.zarr", located=True)


@pytest.fixture(scope="module")
def bags(store):
    return bags_of(store)


def courses(run):
    """All that is measured, but for times."""
    return [dataclasses.replace(r, seconds=None, images_per_s=None) for r in run.records]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [2, 3])
def test_a_resumed_run_equals_an_undisturbed_one_bit_by_bit(bags, tmp_path, kind, steps):
    settings = {"encoder": kind, "batch_size": 6, "epochs": 3}
    whole = finish(small_run(bags, tmp_path / "whole.safetensors", **settings))
    cut = small_run(bags, tmp_path / "cut.safetensors", **settings)
    *_, last = cut.train(lambda: cut.steps_done == steps)
    assert last.is_stopped
    assert not cut.is_done
    resumed = small_run(bags, tmp_path / "cut.safetensors", is_resumed=True, **settings)
    assert courses(finish(resumed)) == courses(whole)
    first, second = (load_file(tmp_path / f"{n}.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert resumed.steps_done == 6


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_falls_below_that_of_chance(bags, tmp_path, kind):
    run = finish(small_run(bags, tmp_path / "g.safetensors", encoder=kind, epochs=60))
    assert run.records[-1].chance_loss == pytest.approx(math.log(2 * 12 - 1))
    assert run.records[-1].loss < 0.6 * run.records[-1].chance_loss
    assert not run.alarms


def test_a_long_run_is_measured_fifty_times_and_counts_all_patients_between(bags, tmp_path):
    run = finish(small_run(bags, tmp_path / "g.safetensors", epochs=101, batch_size=6))
    assert [record.epoch for record in run.records] == [*range(0, 101, 2), 101]
    seen = [round(r.images_per_s * r.seconds) for r in run.records[1:]]
    assert seen == [2 * 12] * 50 + [12]


def test_a_step_takes_all_training_patients_up_to_the_batch_size_and_scales_the_rate(
    bags, tmp_path
):
    run = small_run(bags, tmp_path / "a.safetensors", lr=0.5, warmup=0, batch_size=256)
    assert run.batch_size == 12
    assert run.trainer.contrast.values_at(0).lr == pytest.approx(0.5 * 12 / 256)
    smaller = small_run(bags, tmp_path / "b.safetensors", batch_size=5, warmup=0, lr=0.5)
    assert smaller.length.steps_per_epoch == 2
    assert smaller.trainer.contrast.values_at(0).lr == pytest.approx(0.5 * 5 / 256)


def test_the_weight_decay_that_is_configured_acts_on_weights_and_on_nothing_else(bags, tmp_path):
    norms, vectors = {}, {}
    for decay in (0.0, 30.0):
        run = small_run(bags, tmp_path / f"{decay}.safetensors", weight_decay=decay, epochs=30)
        for parameter in run.trainer.contrast.parameters():
            parameter.register_hook(torch.zeros_like)
        finish(run)
        parameters = list(run.trainer.contrast.parameters())
        norms[decay] = sum(float(p.detach().norm()) for p in parameters if p.ndim > 1)
        vectors[decay] = [p.detach().clone() for p in parameters if p.ndim == 1]
    assert norms[30.0] < 0.9 * norms[0.0]
    assert all(torch.equal(a, b) for a, b in zip(*vectors.values(), strict=True))


def test_collapse_is_said_once_and_recorded(bags, tmp_path):
    out = tmp_path / "g.safetensors"
    run = small_run(bags, out, temperature=1000.0)
    alarms = [alarm.kind for record in run.train() for alarm in record.alarms]
    assert alarms == ["loss"]
    assert run.records[-1].alarms == "loss"
    assert [alarm["kind"] for alarm in load_giga(out)[1].recipe["alarms"]] == ["loss"]


def test_one_direction_for_all_patients_is_an_alarm(bags, tmp_path):
    run = small_run(bags, tmp_path / "g.safetensors", encoder="set", lr=1e-9)
    last = run.trainer.contrast.encoder.network.cells[4]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(1.0)
    assert {a.kind for record in run.train() for a in record.alarms} >= {"loss"}


def test_a_loss_that_is_not_a_number_stops_the_run_and_keeps_the_last_good_state(bags, tmp_path):
    out = tmp_path / "g.safetensors"
    run = small_run(bags, out)
    records = run.train()
    while run.steps_done < 2:
        next(records)
    kept = out.read_bytes(), run.paths.state.read_bytes()
    with torch.no_grad():
        run.trainer.contrast.projector[0].weight.fill_(math.nan)
    with pytest.raises(DivergedError, match="last good checkpoint is kept"):
        list(records)
    assert (out.read_bytes(), run.paths.state.read_bytes()) == kept


def test_a_file_says_what_the_guard_and_the_next_user_need(store, tmp_path):
    seen = ("P01", "P02", "P03", "P04", "P06", "P07", "P08", "P09")
    out = tmp_path / "g.safetensors"
    run = finish(small_run(bags_of(store, seen), out, encoder="sparse", epochs=2))
    encoder, info = load_giga(out)
    assert info.trained_on == seen
    assert info.features_trained_on == ()
    assert info.recipe["config"] == run.config.to_json()
    assert info.recipe["epochs_done"] == 2
    assert info.shape.kind == "sparse"
    assert info.features["weights_sha256"] == "0" * 64
    torch.testing.assert_close(encoder.state_dict(), run.trainer.contrast.encoder.state_dict())
    assert (tmp_path / "g.history.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "g.history.csv").read_text().count("\n") == 4


def test_features_are_scaled_by_the_training_cells_in_the_untouched_view_alone(store):
    seen = ("P01", "P02", "P05")
    with open_store(store) as opened:
        cells = np.concatenate([opened.read(p).features for p in seen]).astype(np.float64)
    everybody = bags_of(store)
    places = np.array([everybody.patient_ids.index(p) for p in seen])
    for mean, sd in (measure_scale(bags_of(store, seen)), measure_scale(everybody, places)):
        np.testing.assert_allclose(mean, cells.mean(0), rtol=1e-5)
        np.testing.assert_allclose(sd, cells.std(0), rtol=1e-5)


def test_the_grid_is_as_fine_as_cells_are_apart():
    rows, columns = np.mgrid[:6, :7]
    lattice = 3.5 * np.stack([rows.ravel(), columns.ravel()], axis=1)
    places = np.concatenate([lattice, lattice[:10] + 1000])
    assert nearest_neighbour_distance(places, np.array([0, 42, 52])) == pytest.approx(3.5)


def test_auto_takes_the_sparse_encoder_only_where_every_cell_has_a_place(bags, tmp_path):
    assert choose_shape(bags, GigaConfig()).kind == "sparse"
    plain = bags_of(toy_patients(tmp_path / "plain.zarr"))
    assert choose_shape(plain, GigaConfig()).kind == "set"


def test_too_few_patients_single_cells_and_missing_places_are_refused(tmp_path):
    few = toy_patients(tmp_path / "few.zarr", num=7)
    with pytest.raises(TooFewPatientsError, match=r"8 training patients or more .* got 7"):
        small_run(bags_of(few), tmp_path / "g.safetensors")
    single = toy_patients(tmp_path / "single.zarr", num=9, sizes=[1, 2, *[9] * 6, 1])
    with pytest.raises(TooFewPatientsError, match=r"single cell.*: P00, P08"):
        small_run(bags_of(single), tmp_path / "g.safetensors")
    plain = toy_patients(tmp_path / "plain.zarr")
    with pytest.raises(CoordsMissingError, match=r"lacks them in P00, .*--encoder set"):
        small_run(bags_of(plain), tmp_path / "g.safetensors", encoder="sparse")
    with pytest.raises(GigaError, match=r"without a bag in .*: Q1"):
        bags_of(plain, ["P00", "Q1"])
    assert not list(tmp_path.glob("g.*"))


def test_one_cell_without_a_place_is_named_by_its_patient_and_auto_takes_the_set_encoder(tmp_path):
    rng = np.random.default_rng(0)
    places = [rng.uniform(0, 9, (6, 2)) for _ in range(9)]
    places[4][2] = np.nan
    store = write_patients(
        tmp_path / "nan.zarr",
        [rng.normal(size=(3, 6, 8)) for _ in range(9)],
        labels=["AML"] * 9,
        coords=places,
    )
    bags = bags_of(store)
    with pytest.raises(CoordsMissingError, match=r"lacks them in P04 \(1 of 9\)"):
        choose_shape(bags, GigaConfig(encoder="sparse"))
    assert choose_shape(bags, GigaConfig()).kind == "set"


def test_another_run_is_neither_overwritten_nor_resumed(store, bags, tmp_path):
    out = tmp_path / "g.safetensors"
    finish(small_run(bags, out))
    with pytest.raises(ResumeError, match="--resume continues"):
        small_run(bags, out)
    with pytest.raises(ResumeError, match="cells: 4 there, 3 asked for"):
        small_run(bags, out, is_resumed=True, cells=3)
    with pytest.raises(ResumeError, match="holds another run"):
        small_run(bags_of(store, bags.patient_ids[1:]), out, is_resumed=True)
    assert small_run(bags, out, is_resumed=True).is_done


def test_maps_are_averaged_over_their_positions(tmp_path):
    maps = toy_patients(tmp_path / "maps.zarr", feature_shape=(8, 3, 3))
    with open_store(maps) as store:
        expected = store.read("P03").features.mean((2, 3))
    bags = bags_of(maps)
    own = slice(*bags.offsets[3:5])
    np.testing.assert_allclose(bags.table[own], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": 0}, "cells: expected 1 or more"),
        ({"batch_size": 1}, "batch_size: expected 2 or more"),
        ({"temperature": 0.0}, "temperature: expected a number above 0"),
        ({"encoder": "grid"}, "encoder: expected auto, set, sparse"),
        ({"encoder": "set", "grid_step": 2.0}, "no effect on the set encoder"),
        ({"encoder": "sparse", "pooling": "attention"}, "no effect on the sparse encoder"),
    ],
)
def test_settings_out_of_range_or_without_effect_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GigaConfig(**settings)


def train_a_share(store, kind):
    """Train on this process's share of steps of 12 patients."""
    torch.set_num_threads(1)
    bags = bags_of(store)
    run = small_run(bags, store.parent / f"{kind}{num_ranks()}.safetensors", encoder=kind)
    losses, gradients = [], []
    for _ in range(5):
        output = run.trainer.step(run.next_sets(), step=run.steps_done)
        run.steps_done += 1
        losses.append(float(sum_over_ranks(output.loss) / num_ranks()))
        gradients.append([float(p.grad.norm()) for p in run.trainer.contrast.parameters()])
    # Adam makes as much of a gradient of rounding as of any other: after the first step losses
    # agree to three digits, and weights are not compared.
    return {"losses": losses, "gradients": gradients[0]}


def run_process(process, store):
    dist.init_process_group(
        "gloo", init_method=f"file://{store.parent}/meet", rank=process, world_size=2
    )
    try:
        for kind in KINDS:
            found = train_a_share(store, kind)
            if rank() == 0:
                (store.parent / f"{kind}.json").write_text(json.dumps(found))
    finally:
        dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_same_patients(tmp_path):
    store = toy_patients(tmp_path / "toy.zarr", located=True)
    torch.multiprocessing.spawn(run_process, args=(store,), nprocs=2)
    for kind in KINDS:
        shared = json.loads((tmp_path / f"{kind}.json").read_text())
        single = train_a_share(store, kind)
        assert shared["losses"][0] == pytest.approx(single["losses"][0], rel=1e-5), kind
        assert shared["gradients"] == pytest.approx(single["gradients"], rel=1e-4, abs=1e-6), kind
        assert shared["losses"] == pytest.approx(single["losses"], rel=1e-2), kind


def test_the_contrast_is_between_patients_not_between_cells(bags):
    """Swapping the two views leaves the loss; swapping partners raises it."""
    config = GigaConfig(**SMALL)
    encoder = build_encoder(choose_shape(bags, config), seed=0)
    contrast = Contrast(encoder, config, RunLength(epochs=1, steps_per_epoch=1), batch_size=6)
    trainer = GigaTrainer(contrast, device=CPU)
    patients = bags.offsets[np.arange(6)][:, None] + np.arange(3)
    same = bags.gather(np.concatenate([patients, patients + 1]))
    swapped = bags.gather(np.concatenate([patients + 1, patients]))
    others = bags.gather(np.concatenate([patients, np.roll(patients + 1, 1, axis=0)]))
    with torch.no_grad():
        losses = [float(trainer.contrast(sets).loss) for sets in (same, swapped, others)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[2] > losses[0]
