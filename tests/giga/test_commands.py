"""The commands: what they print, and what they say of bad input."""

import csv
import json
import signal

import numpy as np
import pytest

from aml_mil.cohort.folds import roles_of
from aml_mil.giga.checkpoint import load_giga
from stores import open_store
from tests.command_line import runner
from tests.embedding.drawing import draw_cohort
from tests.giga.cases import toy_patients
from tests.signalled import run_until

SMALL = ["--epochs", 3, "--width", 16, "--head-out", 8, "--cells", 4, "--device", "cpu"]


@pytest.fixture
def aml_mil(capsys):
    return runner(capsys)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return toy_patients(tmp_path_factory.mktemp("toy") / "toy.zarr", num=24)


@pytest.fixture
def folds(aml_mil, store, tmp_path):
    path = tmp_path / "folds.csv"
    assert aml_mil("folds", store, "--num-folds", 3, "--out", path).code == 0
    return path


def test_from_a_store_to_curves(aml_mil, store, folds, tmp_path):
    for fold in range(3):
        out = tmp_path / f"g{fold}.safetensors"
        words = ["--folds", folds, "--fold", fold, "--json", *SMALL]
        done = aml_mil("giga-ssl", store, "--out", out, *words)
        assert done.code == 0, done.err
        assert "the store holds" not in done.err, "shared views are as they should be"
        assert done.json["patients"] == 8
        with folds.open() as file:
            of = {row["patient_id"]: int(row["fold"]) for row in csv.DictReader(file)}
        assert load_giga(out)[1].trained_on == roles_of(of, fold).train
    embedded = aml_mil(
        "giga-embed", store, "--giga", tmp_path / "g0.safetensors", "--out", tmp_path / "e.npz"
    )
    assert embedded.code == 0, embedded.err
    assert f"{24 * 16 * 4:,}" in embedded.out
    with np.load(tmp_path / "e.npz") as arrays:
        np.testing.assert_allclose(np.linalg.norm(arrays["embeddings"], axis=1), 1, rtol=1e-5)
    words = ["--giga", tmp_path / "g{fold}.safetensors", "--folds", folds, "--draws", 2]
    words += ["--percents", "5,50,100", "--mil-epochs", 1, "--device", "cpu"]
    probed = aml_mil("probe", store, "--out", tmp_path / "p", *words)
    assert probed.code == 0, probed.err
    assert "skipped 5% of the labels: 5% of the 8 patients of AML" in probed.err
    assert "had an encoder seen test patients: none" in probed.err
    assert "50% (8)" in probed.out
    assert "fit_mil" in probed.out
    assert {p.name for p in (tmp_path / "p").iterdir()} == {
        *("probe.csv", "probe_curves.csv", "probe.json", "label_fractions.png"),
        *("label_fractions.svg", "label_fractions.pdf"),
    }
    document = json.loads((tmp_path / "p/probe.json").read_text())
    assert document["config"]["percents"] == [5, 50, 100]
    again = aml_mil("probe", store, "--out", tmp_path / "p", *words)
    assert (again.code, "exists already" in again.err) == (1, True)


def test_features_of_an_encoder_that_has_seen_test_patients_are_refused(aml_mil, folds, tmp_path):
    with folds.open() as file:
        of = {row["patient_id"]: int(row["fold"]) for row in csv.DictReader(file)}
    seen = (roles_of(of, 1).test[0],)
    store = toy_patients(tmp_path / "seen.zarr", num=24, trained_on=seen)
    words = ["giga-ssl", store, "--folds", folds, *SMALL, "--out"]
    refused = aml_mil(*words, tmp_path / "g1.safetensors", "--fold", 1)
    assert refused.code == 1
    assert f"encoder toy has seen test patients of fold 1: {seen[0]}" in refused.err
    assert aml_mil(*words, tmp_path / "g0.safetensors", "--fold", 0).code == 0
    allowed = aml_mil(*words, tmp_path / "g1.safetensors", "--fold", 1, "--allow-transductive")
    assert allowed.code == 0


def test_the_bytes_of_the_images_are_counted_as_files_and_as_pixels(aml_mil, store, tmp_path):
    giga = tmp_path / "g.safetensors"
    assert aml_mil("giga-ssl", store, "--out", giga, *SMALL).code == 0
    cohort = draw_cohort(tmp_path / "cohort")
    words = ["--giga", giga, "--out", tmp_path / "e.csv", "--cohort", cohort, "--json"]
    found = aml_mil("giga-embed", store, *words)
    assert found.code == 0, found.err
    files = sum(path.stat().st_size for path in cohort.rglob("*.png"))
    assert found.json["image_file_bytes"] == files
    with open_store(store) as opened:
        num_cells = sum(opened.record(b).num_instances for b in opened.bag_ids)
    assert found.json["pixel_bytes"] == num_cells * 144 * 144 * 3
    assert found.json["embedding_bytes"] == 24 * 16 * 4


def test_flips_alone_are_called_weaker(aml_mil, tmp_path):
    flips = ("identity", "hflip", "vflip", "both")
    store = toy_patients(tmp_path / "flips.zarr", views=flips)
    done = aml_mil("giga-ssl", store, "--out", tmp_path / "g.safetensors", *SMALL)
    assert done.code == 0, done.err
    assert "warning: the store holds flips as its only augmented views" in done.err


def test_a_finished_run_resumed_says_so(aml_mil, store, tmp_path):
    words = ["giga-ssl", store, "--out", tmp_path / "g.safetensors", *SMALL]
    assert aml_mil(*words).code == 0
    again = aml_mil(*words, "--resume")
    assert again.code == 0
    assert "finished already: 3 epochs" in again.err
    refused = aml_mil(*words)
    assert (refused.code, "--resume continues" in refused.err) == (1, True)


@pytest.mark.parametrize(
    ("patients", "words", "message"),
    [
        ({"num": 6}, [], "expected 8 training patients or more"),
        ({"num": 9, "sizes": [1, *[5] * 8]}, [], "patients with a single cell"),
        ({}, ["--encoder", "sparse"], "the sparse encoder needs coords of every cell"),
        ({}, ["--resume"], "nothing to resume"),
    ],
)
def test_bad_input_is_one_clear_line(aml_mil, tmp_path, patients, words, message):
    store = toy_patients(tmp_path / "toy.zarr", **patients)
    done = aml_mil("giga-ssl", store, "--out", tmp_path / "g.safetensors", *SMALL, *words)
    assert done.code == 1
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("aml-mil: error: ")
    assert message in last


AUTO_OPTIONS = [
    (False, ["--grid-step", 2], "set"),
    (True, ["--pooling", "attention"], "sparse"),
    (True, ["--grid-step", 2], "sparse"),
    (False, ["--pooling", "attention"], "set"),
]


@pytest.mark.parametrize(("located", "words", "kind"), AUTO_OPTIONS[:2])
def test_options_without_effect_on_the_encoder_that_auto_takes_are_refused(
    aml_mil, tmp_path, located, words, kind
):
    store = toy_patients(tmp_path / "toy.zarr", located=located)
    done = aml_mil("giga-ssl", store, "--out", tmp_path / "g.safetensors", *SMALL, *words)
    assert (done.code, done.out) == (1, "")
    name = words[0].removeprefix("--").replace("-", "_")
    assert done.err.strip().splitlines()[-1] == (
        f"aml-mil: error: auto takes the {kind} encoder for {store}: {name} has no effect on the "
        f"{kind} encoder; leave one of them out"
    )
    assert "Traceback" not in done.err
    assert not list(tmp_path.glob("g.*"))


@pytest.mark.parametrize(("located", "words", "kind"), AUTO_OPTIONS[2:])
def test_options_with_an_effect_on_the_encoder_that_auto_takes_are_used(
    aml_mil, tmp_path, located, words, kind
):
    store = toy_patients(tmp_path / "toy.zarr", located=located)
    out = tmp_path / "g.safetensors"
    done = aml_mil("giga-ssl", store, "--out", out, "--json", *SMALL, *words)
    assert done.code == 0, done.err
    shape = load_giga(out)[1].shape
    assert shape.kind == done.json["encoder"] == kind
    name = words[0].removeprefix("--").replace("-", "_")
    assert getattr(shape, name) == words[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["giga-ssl", "a.zarr", "--out", "g.pt"], "ends in .safetensors"),
        (["giga-ssl", "a.zarr", "--out", "no/g.safetensors"], "there is no folder no"),
        (["giga-ssl", "a.zarr", "--out", "g.safetensors", "--fold", "0"], "belong together"),
        (["giga-ssl", "a.zarr", "--out", "g.safetensors", "--cells", "0"], "cells: expected 1"),
        (["probe", "a.zarr", "--out", "p", "--no-mil", "--mil-lr", "0.1"], "no effect beside"),
        (["probe", "a.zarr", "--out", "p", "--percents", "50,10"], "rising shares"),
    ],
)
def test_wrong_usage_is_said_with_exit_code_2(aml_mil, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    done = aml_mil(*words)
    assert done.code == 2
    assert message in done.err


def test_a_fold_that_is_not_there_and_a_missing_file_are_said(aml_mil, store, folds, tmp_path):
    out = tmp_path / "g.safetensors"
    done = aml_mil("giga-ssl", store, "--out", out, "--folds", folds, "--fold", 3)
    assert (done.code, "expected a fold from 0 to 2, got 3" in done.err) == (2, True)
    done = aml_mil("probe", store, "--giga", out, "--out", tmp_path / "p", "--num-folds", 3)
    assert (done.code, "no encoder of patients at" in done.err) == (1, True)
    done = aml_mil("giga-embed", store, "--giga", out, "--out", tmp_path / "e.parquet")
    assert (done.code, "ends in one of .csv, .npz, .h5ad" in done.err) == (1, True)


@pytest.mark.slow
def test_a_terminated_run_goes_on_to_the_same_loss_curve(aml_mil, store, tmp_path):
    words = ["giga-ssl", store, *SMALL, "--epochs", 100, "--out"]
    cut, whole = tmp_path / "cut.safetensors", tmp_path / "whole.safetensors"
    code, said = run_until(
        "aml_mil.ssl.training_run.write_state",  # before the first step, and after measuring
        calls=2,
        signal=signal.SIGTERM,
        words=[*words, cut],
    )
    assert code == 1
    assert "--resume goes on" in said
    assert aml_mil(*words, cut, "--resume").code == 0
    assert aml_mil(*words, whole).code == 0
    curves = [
        [line.split(",")[:3] for line in path.with_suffix(".history.csv").read_text().splitlines()]
        for path in (cut, whole)
    ]
    assert len(curves[0]) == 52
    assert curves[0] == curves[1]
