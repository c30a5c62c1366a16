"""The main job from images to results, as a user types it."""

import csv
from pathlib import Path

import numpy as np
import pytest

import aml_mil as api
from tests.command_line import RunCommand
from tests.e2e.conftest import EMBED

FAST = ["--epochs", "2", "--seeds", "2", "--num-folds", "3"]


@pytest.mark.parametrize("name", ["cells.zarr", "cells.h5store"])
def test_images_become_a_run_folder_with_floors(
    aml_mil: RunCommand, cohort: Path, tmp_path: Path, name: str
) -> None:
    store, run = tmp_path / name, tmp_path / "run"
    embedded = aml_mil("embed", cohort, *EMBED, "--out", store, "--json")
    assert embedded.code == 0, embedded.err
    assert (embedded.json["patients"], embedded.json["quarantined"]) == (20, 0)

    fitted = aml_mil("fit-mil", store, "--out", run, *FAST, "--json")
    assert fitted.code == 0, fitted.err
    assert {"colour", "mean_pooling"} <= fitted.json["floors"].keys()
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 * 3 * 2
    tested = [(row["patient_id"], row["seed"]) for row in rows if row["role"] == "test"]
    assert len(set(tested)) == len(tested) == 20 * 2
    for row in rows:
        assert sum(float(row[key]) for key in row if key.startswith("prob_")) == pytest.approx(1)


def test_both_formats_hold_equal_arrays(
    aml_mil: RunCommand, shared_store: Path, shared_cohort: Path, tmp_path: Path
) -> None:
    other = tmp_path / "cells.h5store"
    assert aml_mil("embed", shared_cohort, *EMBED, "--out", other).code == 0
    with api.open_store(shared_store) as first, api.open_store(other) as second:
        assert first.bag_ids == second.bag_ids
        for bag_id in first.bag_ids:
            np.testing.assert_array_equal(first.read(bag_id).features, second.read(bag_id).features)
            np.testing.assert_array_equal(first.read(bag_id).views, second.read(bag_id).views)


def test_the_same_seed_gives_the_same_predictions(
    aml_mil: RunCommand, shared_store: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        assert aml_mil("fit-mil", shared_store, "--out", tmp_path / name, *FAST).code == 0
    first, second = ((tmp_path / name / "predictions.csv").read_bytes() for name in ("a", "b"))
    assert first == second


def test_a_finished_run_is_left_alone_and_another_config_refused(
    aml_mil: RunCommand, shared_store: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert aml_mil("fit-mil", shared_store, "--out", run, *FAST).code == 0
    heads = (run / "heads.safetensors").stat().st_mtime_ns
    again = aml_mil(
        "fit-mil", shared_store, "--out", run, "--config", run / "config.json", "--json"
    )
    assert again.code == 0, again.err
    assert again.json["is_new"] is False
    assert (run / "heads.safetensors").stat().st_mtime_ns == heads
    other = aml_mil("fit-mil", shared_store, "--out", run, *FAST, "--lr", "0.5")
    assert other.code == 1
    assert "lr" in other.err


def test_folds_of_a_store_and_of_its_cohort_are_the_same(
    aml_mil: RunCommand, shared_store: Path, shared_cohort: Path, tmp_path: Path
) -> None:
    for source, name in ((shared_store, "s.csv"), (shared_cohort, "c.csv")):
        assert aml_mil("folds", source, "--out", tmp_path / name).code == 0
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "c.csv").read_text()


def test_store_info_counts_what_embed_counted(aml_mil: RunCommand, shared_store: Path) -> None:
    facts = aml_mil("store", "info", shared_store, "--json").json
    assert facts["num_bags"] == 20
    assert facts["num_instances"] == 80
    assert facts["num_quarantined"] == 0
    assert facts["views"] == ["identity", "hflip", "vflip", "both"]
    assert facts["feature_shape"] == [512]
    assert sum(facts["classes"].values()) == 20


def test_growth_is_said_and_left_to_the_user(
    aml_mil: RunCommand, cohort: Path, store: Path
) -> None:
    header, *rows = (cohort / "metadata.csv").read_text().splitlines()
    column = header.split(",").index("patient_id")
    ids = [row.split(",")[column] for row in rows[:3]]
    folders = {path.name: path for path in (cohort / "data").glob("*/*")}
    image = sorted(folders[ids[0]].iterdir())[0]
    (folders[ids[0]] / "image_99.tif").write_bytes(image.read_bytes())
    gone = folders[ids[1]]
    for path in gone.iterdir():
        path.unlink()
    gone.rmdir()
    new = folders[ids[2]].with_name("NEW_1")
    new.mkdir()
    (new / "image_0.tif").write_bytes(image.read_bytes())
    kept = [row for row in rows if row.split(",")[column] != ids[1]]
    added = rows[2].replace(ids[2], "NEW_1", 1)
    (cohort / "metadata.csv").write_text("\n".join([header, *kept, added]) + "\n")

    grown = aml_mil("embed", cohort, *EMBED, "--out", store, "--json")
    assert grown.code == 1
    assert grown.json["patients_embedded"] == 1
    assert grown.json["vanished"] == [ids[1]]
    assert len(grown.json["changed"]) == 1
    assert "image_99.tif" in grown.json["changed"][0]

    mended = aml_mil("embed", cohort, *EMBED, "--out", store, "--refresh", "--drop-vanished")
    assert mended.code == 0, mended.err
    assert aml_mil("store", "info", store, "--json").json["num_instances"] == 80 + 1 + 1 - 4
    assert aml_mil("store", "verify", store).code == 0
