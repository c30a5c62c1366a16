"""Embedding into a store at a URL."""

import fsspec
import pytest

from stores import copy_store, open_store
from tests.command_line import runner
from tests.embedding.drawing import LABELS, bag_bytes, run
from tests.stores.test_url_store import CutConnection

FLAGS = ("--encoder", "test_resnet", "--weights", "random:0", "--image-size", "32")
SETTINGS = ("--device", "cpu", "--precision", "fp32", "--batch-size", "6")


@pytest.fixture
def connection(monkeypatch):
    fsspec.register_implementation("cut", CutConnection, clobber=True)
    return lambda puts: monkeypatch.setattr(CutConnection, "puts_left", puts)


def test_a_connection_cut_in_the_middle_ends_in_one_line_and_the_command_goes_on(
    cohort_dir, tmp_path, encoder, connection, capsys
):
    command, url = runner(capsys), f"cut://{tmp_path.name}/cells.zarr"
    words = ("embed", cohort_dir, *FLAGS, *SETTINGS, "--out", url)
    connection(20)
    cut = command(*words)
    assert cut.code == 1
    last = cut.err.strip().splitlines()[-1]
    assert last.startswith("aml-mil: error: ")
    assert "cannot be reached" in last
    assert "Traceback" not in cut.err
    connection(10**9)
    with open_store(url) as store:
        assert 0 < len(store) < len(LABELS)
    done = command(*words, "--json")
    assert done.json["patients"] == len(LABELS)
    assert done.json["store"] == url
    assert done.json["patients_embedded"] < len(LABELS)

    run(cohort_dir, tmp_path / "local.zarr", encoder)
    with open_store(url) as store:
        list(copy_store(store, tmp_path / "copy.zarr"))
    assert bag_bytes(tmp_path / "copy.zarr") == bag_bytes(tmp_path / "local.zarr")
    for words in (("info", url), ("verify", url), ("copy", url, tmp_path / "again.h5store")):
        assert command("store", *words).code == 0
