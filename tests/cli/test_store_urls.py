"""Every command takes a store at a URL as it takes a folder, and names it as it was written."""

import json

import pytest

from aml_mil.giga.checkpoint import load_giga
from stores import copy_store, open_store
from tests.command_line import runner
from tests.giga.cases import toy_patients
from tests.mil.cases import write_store

SMALL = ("--epochs", 2, "--width", 16, "--head-out", 8, "--cells", 4, "--device", "cpu")
FIT = ("--num-folds", 3, "--seeds", 1, "--epochs", 2, "--widths", "8,6", "--device", "cpu")


@pytest.fixture
def aml_mil(capsys):
    return runner(capsys)


@pytest.fixture
def local(tmp_path):
    return toy_patients(tmp_path / "toy.zarr", num=24)


@pytest.fixture
def url(local, tmp_path):
    return _copied(local, f"memory://{tmp_path.name}/toy.zarr")


def _copied(path, url):
    with open_store(path) as store:
        list(copy_store(store, url))
    return url


def test_folds_of_a_url_are_those_of_the_folder(aml_mil, local, url, tmp_path):
    for name, place in (("local", local), ("memory", url), ("file", local.as_uri())):
        words = ("--num-folds", 3, "--out", tmp_path / f"{name}.csv")
        assert aml_mil("folds", place, *words).code == 0
    texts = {(tmp_path / f"{name}.csv").read_text() for name in ("local", "memory", "file")}
    assert len(texts) == 1
    assert aml_mil("folds", tmp_path / "nowhere.zarr").code == 1


def test_patients_are_embedded_from_a_url(aml_mil, local, url, tmp_path):
    giga = tmp_path / "g.safetensors"
    assert aml_mil("giga-ssl", url, "--out", giga, *SMALL).code == 0
    assert load_giga(giga)[1].recipe["store"] == url
    words = ("--giga", giga, "--draws", 2, "--device", "cpu", "--json", "--out")
    done = aml_mil("giga-embed", url, *words, tmp_path / "e.csv")
    assert done.code == 0, done.err
    with open_store(url) as store:
        assert done.json["store_bytes"] == store.num_bytes() > 0
    assert json.loads((tmp_path / "e.json").read_text())["store"] == url
    of_folder = aml_mil("giga-embed", local, *words, tmp_path / "e.csv").json
    assert of_folder["store_bytes"] == sum(
        path.stat().st_size for path in local.rglob("*") if path.is_file()
    )


def test_a_url_is_probed(aml_mil, url, tmp_path):
    words = ("--num-folds", 3, "--percents", "100", "--no-mil", "--device", "cpu")
    done = aml_mil("probe", url, "--out", tmp_path / "p", *words)
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "p/probe.json").read_text())["store"] == url


def test_the_store_commands_take_urls(aml_mil, local, url, tmp_path):
    assert aml_mil("store", "info", url, "--json").json["num_bags"] == 24
    for words in (("verify", url), ("repair", url), ("diff", url, local)):
        done = aml_mil("store", *words)
        assert done.code == 0, done.err
        assert url in done.out
    assert aml_mil("store", "copy", url, tmp_path / "copy.h5store").code == 0
    done = aml_mil("store", "merge", url, url, tmp_path / "twice.zarr")
    assert (done.code, "given twice" in done.err) == (2, True)
    done = aml_mil("store", "export", url, "--to", "table", "--out", tmp_path / "features.csv")
    assert done.code == 0, done.err


def test_a_url_is_predicted(aml_mil, tmp_path):
    path = write_store(tmp_path / "cells.zarr")
    assert aml_mil("fit-mil", path, "--out", tmp_path / "run", *FIT).code == 0
    url = _copied(path, f"memory://{tmp_path.name}/cells.zarr")
    page = tmp_path / "page.html"
    done = aml_mil("predict", tmp_path / "run", url, "--json", "--report", page)
    assert done.code == 0, done.err
    assert (
        done.json["patients"]
        == aml_mil("predict", tmp_path / "run", path, "--json").json["patients"]
    )
    assert url in page.read_text()
