"""What a user does wrong ends in one clear line and exit code 1 or 2, never in a traceback."""

import os
import shutil
from pathlib import Path

import pytest

from tests.command_line import Outcome, RunCommand
from tests.e2e.conftest import EMBED


def assert_one_line(outcome: Outcome, *words: str, code: int = 1) -> None:
    """Check that the last line names the trouble and that there is no traceback."""
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    line = outcome.err.strip().splitlines()[-1]
    for word in words:
        assert word in line


def embed(aml_mil: RunCommand, cohort: Path, out: Path) -> Outcome:
    return aml_mil("embed", cohort, *EMBED, "--out", out)


def test_missing_metadata(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    (cohort / "metadata.csv").unlink()
    assert_one_line(embed(aml_mil, cohort, tmp_path / "s.zarr"), "metadata.csv")


def test_missing_column(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    table = cohort / "metadata.csv"
    table.write_text(table.read_text().replace("bag_label", "diagnosis", 1))
    assert_one_line(embed(aml_mil, cohort, tmp_path / "s.zarr"), "bag_label")


def test_patient_without_a_folder(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    folder = sorted((cohort / "data").glob("*/*"))[0]
    shutil.rmtree(folder)
    assert_one_line(embed(aml_mil, cohort, tmp_path / "s.zarr"), folder.name)


def test_folder_without_a_patient(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    folder = sorted((cohort / "data").glob("*/*"))[0]
    shutil.copytree(folder, folder.with_name("STRAY"))
    assert_one_line(embed(aml_mil, cohort, tmp_path / "s.zarr"), "STRAY")


def test_empty_patient_folder(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    folder = sorted((cohort / "data").glob("*/*"))[0]
    for path in folder.iterdir():
        path.unlink()
    assert_one_line(embed(aml_mil, cohort, tmp_path / "s.zarr"), folder.name)


def test_a_patient_of_unreadable_images_fails_and_the_others_are_kept(
    aml_mil: RunCommand, cohort: Path, tmp_path: Path
) -> None:
    folder = sorted((cohort / "data").glob("*/*"))[0]
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:500])
    out = tmp_path / "s.zarr"
    assert_one_line(embed(aml_mil, cohort, out), folder.name)
    assert aml_mil("store", "info", out, "--json").json["num_bags"] == 19


def test_a_label_with_fewer_patients_than_folds(
    aml_mil: RunCommand, shared_store: Path, tmp_path: Path
) -> None:
    outcome = aml_mil("fit-mil", shared_store, "--out", tmp_path / "run", "--num-folds", "9")
    assert_one_line(outcome, "NPM1", "9")


def test_weights_of_another_architecture(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    weights = tmp_path / "r18.safetensors"
    save_file(timm.create_model("resnet18").state_dict(), weights)
    outcome = aml_mil(
        "embed", cohort, "--encoder", "resnet34", "--weights", weights, "--out", tmp_path / "s.zarr"
    )
    assert_one_line(outcome, "layer1.2.conv1.weight")


def test_unknown_encoder(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    outcome = aml_mil(
        "embed",
        cohort,
        "--encoder",
        "resnet81",
        "--weights",
        "random:0",
        "--out",
        tmp_path / "s.zarr",
    )
    assert_one_line(outcome, "resnet18")


def test_weights_that_nobody_named(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    outcome = aml_mil("embed", cohort, "--encoder", "resnet18", "--out", tmp_path / "s.zarr")
    assert_one_line(outcome, "--weights", "random:SEED")


def test_weights_from_a_hub_without_a_network(
    aml_mil: RunCommand, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    outcome = aml_mil(
        "embed", cohort, "--encoder", "resnet18", "--weights", "timm", "--out", tmp_path / "s.zarr"
    )
    assert_one_line(outcome, "resnet18")


def test_a_store_of_another_encoder(aml_mil: RunCommand, cohort: Path, store: Path) -> None:
    other = [word.replace("random:0", "random:1") for word in EMBED]
    outcome = aml_mil("embed", cohort, *other, "--out", store)
    assert_one_line(outcome, "weights_sha256")


def test_an_unwritable_target(aml_mil: RunCommand, cohort: Path, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("not a folder")
    assert_one_line(embed(aml_mil, cohort, target / "s.zarr"), "file")


def test_a_full_disk(
    aml_mil: RunCommand, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, data: object) -> int:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("stores.files.os.write", refuse)
    assert_one_line(embed(aml_mil, cohort, tmp_path / "s.zarr"), "disk is full")


def test_a_truncated_store(aml_mil: RunCommand, store: Path, tmp_path: Path) -> None:
    bag = sorted((store / "bags").iterdir())[1]
    bag = bag if bag.is_dir() else sorted((store / "bags").iterdir())[0]
    largest = max(
        (path for path in bag.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )
    largest.write_bytes(largest.read_bytes()[:-100])
    assert_one_line(aml_mil("fit-mil", store, "--out", tmp_path / "run"), bag.name)
    outcome = aml_mil("store", "verify", store)
    assert_one_line(outcome, "1 of 20")
    assert bag.name in outcome.err


def test_folds_kept_earlier_and_other_files_are_not_overwritten(
    aml_mil: RunCommand, cohort: Path, shared_store: Path, tmp_path: Path
) -> None:
    words = ("folds", shared_store, "--num-folds", "3", "--out", tmp_path / "folds.csv")
    for _ in range(2):  # the same folds again
        assert aml_mil(*words).code == 0
    for path in (tmp_path / "folds.csv", cohort / "metadata.csv"):
        kept = path.read_bytes()
        outcome = aml_mil(*words[:-1], path, "--seed", "1")
        assert_one_line(outcome, path.name, "name another file")
        assert path.read_bytes() == kept


def test_folds_of_another_cohort(aml_mil: RunCommand, shared_store: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    folds.write_text("patient_id,fold\nA,0\nB,1\nC,2\n")
    outcome = aml_mil("fit-mil", shared_store, "--folds", folds, "--out", tmp_path / "run")
    assert_one_line(outcome, "another cohort")


def test_a_setting_without_effect(aml_mil: RunCommand, shared_store: Path, tmp_path: Path) -> None:
    folds = tmp_path / "folds.csv"
    folds.write_text("patient_id,fold\nA,0\nB,1\nC,2\n")
    outcome = aml_mil(
        "fit-mil", shared_store, "--folds", folds, "--num-folds", "5", "--out", tmp_path / "run"
    )
    assert_one_line(outcome, "--num-folds", code=2)


def test_an_unknown_flag(aml_mil: RunCommand) -> None:
    assert_one_line(aml_mil("fit-mil", "s.zarr", "--epoch", "3"), "--epoch", code=2)


def test_an_unknown_setting_in_a_config_file(
    aml_mil: RunCommand, shared_store: Path, tmp_path: Path
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"epoch": 3}')
    outcome = aml_mil("fit-mil", shared_store, "--out", tmp_path / "run", "--config", config)
    assert_one_line(outcome, "epochs", code=2)


def test_a_store_that_is_not_there(aml_mil: RunCommand, tmp_path: Path) -> None:
    assert_one_line(aml_mil("store", "info", tmp_path / "none.zarr"), "none.zarr")
