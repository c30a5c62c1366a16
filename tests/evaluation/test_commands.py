import csv
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_mil.cohort import read_cohort
from aml_mil.embedding import embed
from aml_mil.encoders import load_encoder
from aml_mil.evaluation import cell_map
from aml_mil.evaluation.run import open_run
from aml_mil.report.run_tables import stress_table
from stores import create_store, open_store
from tests.command_line import RunCommand, runner
from tests.evaluation.cohorts import EMBED, SIZE_PX, Fitted, draw_cohort


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    return runner(capsys)


@pytest.fixture
def second_run(tinted: Fitted, tmp_path: Path) -> Path:
    """A run over the same folds that guesses."""
    path = Path(shutil.copytree(tinted.run, tmp_path / "worse"))
    with (path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    for row in rows:
        value = float(rng.random())
        row["prob_blue"], row["prob_red"] = repr(value), repr(1 - value)
    with (path / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_compare_prints_both_tables_the_pair_and_the_floors(
    command: RunCommand, tinted: Fitted, second_run: Path
) -> None:
    done = command("compare", tinted.run, second_run)
    assert done.code == 0
    assert "run − worse" in done.out
    assert "floor: colour" in done.out
    assert "mean ± s.d. over folds x seeds" in done.out
    assert "worse is not shown to beat the floor colour: roc_auc 1.00 above" in done.err
    assert "--random-store" in done.err


def test_compare_draws_all_figures_in_three_formats(
    command: RunCommand, tinted: Fitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell_map, "lay_out", lambda features, seed: features[:, :2].astype(float))
    done = command("compare", tinted.run, "--figures", tmp_path / "figures")
    assert done.code == 0
    names = {path.name for path in (tmp_path / "figures").iterdir()}
    stems = ("figure2_confusion", "figure3_roc", "figure3_pr", "figure4_attention", "figure5_cells")
    assert names == {f"{stem}.{suffix}" for stem in stems for suffix in ("png", "svg", "pdf")}


def test_cell_types_without_figures_are_refused_before_anything_is_printed(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    (tmp_path / "kinds.csv").write_text("cell_type,kind\n")
    done = command("compare", tinted.run, "--cell-types", tmp_path / "kinds.csv")
    assert (done.code, done.out) == (2, "")
    assert "--cell-types has no effect without --figures" in done.err


def test_compare_speaks_json_csv_markdown_and_latex(
    command: RunCommand, tinted: Fitted, second_run: Path
) -> None:
    document = command("compare", tinted.run, second_run, "--json").json
    auc = document["runs"]["run"]["macro"]["roc_auc"]
    assert auc["low"] <= auc["averaged"] <= auc["high"]
    assert document["floors"]["colour"]["macro"]["roc_auc"]["mean"] == 1.0
    assert document["paired"][0]["difference"]["roc_auc"]["macro"]["low"] > 0
    assert any(r["floor"] == "colour" for r in document["floors_reached"])
    table = command("compare", tinted.run, second_run, "--csv").out
    rows = list(csv.DictReader(io.StringIO(table)))
    (found,) = (
        r for r in rows if (r["name"], r["group"], r["metric"]) == ("run", "macro", "roc_auc")
    )
    assert float(found["mean"]) == auc["mean"]
    assert found["best"] == "yes"
    assert "| **" in command("compare", tinted.run, second_run, "--markdown").out
    latex = command("compare", tinted.run, second_run, "--latex").out
    assert r"\textbf{" in latex
    assert r"$\pm$" in latex
    assert r"mean\_pooling" in latex


def test_compare_takes_a_random_encoder_as_a_floor(command: RunCommand, tinted: Fitted) -> None:
    document = command("compare", tinted.run, "--random-store", tinted.store, "--json").json
    floors = document["floors"]
    # The run's own encoder is random: the floor is its mean pooling.
    ours, theirs = (floors[n]["macro"]["roc_auc"] for n in ("random_encoder", "mean_pooling"))
    assert ours["mean"] == pytest.approx(theirs["mean"])
    assert ours["low"] is not None


def test_fit_mil_writes_the_floor_of_a_random_store(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    settings = json.loads((tinted.run / "config.json").read_text())["fit"]
    (tmp_path / "fit.json").write_text(json.dumps(settings | {"seeds": 1, "epochs": 2}))
    fit = ("fit-mil", tinted.store, "--out", tmp_path / "run", "--config", tmp_path / "fit.json")
    bare = command(*fit)
    assert bare.code == 0
    assert bare.err.count("--random-store random.zarr") == 1
    done = command(*fit, "--random-store", tinted.store, "--json")
    assert done.code == 0
    floors = json.loads((tmp_path / "run" / "metrics.json").read_text())["floors"]
    # The store's own encoder is random: the floor is its mean pooling.
    for floor in (floors["random_encoder"], done.json["floors"]["random_encoder"]):
        assert floor["roc_auc"] == pytest.approx(floors["mean_pooling"]["roc_auc"])
        assert floor["per_class"].keys() == {"blue", "red"}
    compared = command("compare", tmp_path / "run")
    assert "floor: random_encoder" in compared.out
    assert "--random-store" not in compared.err


def test_fit_mil_refuses_a_random_store_that_is_none_before_it_trains(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    few = shutil.copytree(tinted.store, tmp_path / "few.zarr")
    shutil.rmtree(few / "bags" / "P03")
    fit = ("fit-mil", tinted.store, "--out", tmp_path / "run", "--num-folds", 3)
    done = command(*fit, "--random-store", few)
    assert done.code == 1
    assert f"without a bag in {few}: P03 (1 of 24)" in done.err
    assert len(done.err.splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["compare", "fit-mil"])
def test_a_store_of_learned_weights_is_no_random_store(
    command: RunCommand, tinted: Fitted, tmp_path: Path, name: str
) -> None:
    with open_store(tinted.store) as store:
        manifest = dataclasses.replace(store.manifest, weights="learned.safetensors")
    create_store(tmp_path / "learned.zarr", manifest)
    start = (name, tinted.run) if name == "compare" else (name, tinted.store, "--out", tinted.run)
    done = command(*start, "--random-store", tmp_path / "learned.zarr")
    assert done.code == 1
    assert "expected a store of random weights" in done.err
    assert "got learned.safetensors" in done.err
    assert len(done.err.splitlines()) == 1


def test_explain_shows_writes_and_draws_the_cells(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    outputs = [tmp_path / "cells.csv", tmp_path / "cells.png"]
    done = command(
        "explain", tinted.run, "P05", "--cells", 2, "--cohort", tinted.cohort,
        "--out", outputs[0], "--out", outputs[1],
    )  # fmt: skip
    assert done.code == 0
    assert done.out.count("most attended for") == done.out.count("least attended for") == 2
    assert "P05, red, 4 cells" in done.out
    found = open_run(tinted.run).explain("P05")
    with outputs[0].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["instance_id"] for row in rows] == list(found.instance_ids)
    assert [float(row["alone_red"]) for row in rows] == found.alone[:, 1].tolist()
    assert sum(float(row["attention_blue"]) for row in rows) == pytest.approx(4)
    with Image.open(outputs[1]) as image:
        assert image.width > 300


def test_explain_speaks_json(command: RunCommand, tinted: Fitted) -> None:
    document = command("explain", tinted.run, "P05", "--cells", 1, "--json").json
    found = open_run(tinted.run).explain("P05")
    assert document["deconvolution"] == found.deconvolution
    (cell,) = document["classes"]["red"]["most_attended"]
    assert cell["instance_id"] == found.instance_ids[found.attention[:, 1].argmax()]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("P99",), 1, "has no patient 'P99'"),
        (("P05", "--out", "cells.png"), 2, "give their --cohort"),
        (("P05", "--out", "cells.txt"), 2, "expected a name that ends in .csv"),
        (("P05", "--cohort", "."), 2, "--cohort has no effect"),
    ],
)
def test_explain_says_what_is_wrong(
    command: RunCommand, tinted: Fitted, arguments: tuple[str, ...], code: int, message: str
) -> None:
    done = command("explain", tinted.run, *arguments)
    assert done.code == code
    assert message in done.err


def test_explain_refuses_a_cohort_without_the_patients_images(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    other = draw_cohort(tmp_path / "c", label_is="tint", num_patients=4, first_id=60)
    done = command("explain", tinted.run, "P05", "--cohort", other, "--out", tmp_path / "a.png")
    assert done.code == 1
    assert f"images of patient P05 that are not in {other}: image_0.png" in done.err
    assert not (tmp_path / "a.png").exists()


def test_runs_on_different_folds_are_one_clear_line(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tinted.run, tmp_path / "other"))
    text = (other / "predictions.csv").read_text().splitlines()
    swapped = {"0": "1", "1": "2", "2": "0"}
    lines = [text[0]]
    for line in text[1:]:
        parts = line.split(",")
        parts[2] = swapped[parts[2]]
        lines.append(",".join(parts))
    (other / "predictions.csv").write_text("\n".join(lines) + "\n")
    done = command("compare", tinted.run, other)
    assert done.code == 1
    assert "run and other have different folds of P00" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_run_without_test_predictions_is_one_clear_line(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(tinted.run, tmp_path / "other"))
    lines = (other / "predictions.csv").read_text().splitlines()
    kept = [line for line in lines if ",test," not in line]
    (other / "predictions.csv").write_text("\n".join(kept) + "\n")
    done = command("compare", other)
    assert done.code == 1
    assert "holds no test predictions" in done.err
    assert len(done.err.splitlines()) == 1


def test_predict_writes_predictions_and_metrics_with_intervals(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    cohort = draw_cohort(tmp_path / "c", label_is="tint", num_patients=8, first_id=60, seed=3)
    done = command("predict", tinted.run, cohort, "--out", tmp_path / "out", "--json")
    assert done.code == 0
    assert len(done.json["patients"]) == 8
    first = done.json["patients"][0]
    assert first["prob_blue"] + first["prob_red"] == pytest.approx(1)
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["prob_red"]) == first["prob_red"]
    assert rows[0]["patient_id"] == first["patient_id"]
    assert done.json["metrics"]["macro"]["roc_auc"]["low"] is not None
    assert (tmp_path / "out" / "metrics.json").exists()
    text = command("predict", tinted.run, cohort, "--out", tmp_path / "out")
    assert "8 labelled patients" in text.out


def test_predict_takes_folders_for_patients_unless_they_are_one_patients_smears(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    cohort = draw_cohort(tmp_path / "c", label_is="tint", num_patients=4, first_id=60)
    several = tmp_path / "several"
    shutil.copytree(cohort / "data" / "red", several)
    names = sorted(path.name for path in several.iterdir())
    apart = command("predict", tinted.run, several, "--json")
    assert [row["patient_id"] for row in apart.json["patients"]] == names
    assert f"each of the {len(names)} folders in {several} is taken for a patient" in apart.err
    whole = command("predict", tinted.run, several, "--one-patient", "--json")
    assert [row["patient_id"] for row in whole.json["patients"]] == ["several"]
    assert "taken for a patient" not in whole.err
    one = command("predict", tinted.run, several / names[0], "--json")
    assert [row["patient_id"] for row in one.json["patients"]] == [names[0]]


@pytest.mark.parametrize("source", ["folder", "table", "store"])
def test_predict_does_not_make_one_patient_of_a_cohort_or_a_store(
    command: RunCommand, tinted: Fitted, source: str
) -> None:
    table = tinted.cohort / "metadata.csv"
    path = {"folder": tinted.cohort, "table": table, "store": tinted.store}[source]
    done = command("predict", tinted.run, path, "--one-patient")
    assert done.code == 2
    assert f"--one-patient: {path} names its patients itself" in done.err


def test_predict_predicts_all_but_the_patients_without_a_readable_image(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    cohort = draw_cohort(tmp_path / "c", label_is="tint", num_patients=4, first_id=60)
    several, out, page = tmp_path / "several", tmp_path / "out", tmp_path / "page.html"
    shutil.copytree(cohort / "data" / "red", several)
    names = sorted(path.name for path in several.iterdir())
    expected = command("predict", tinted.run, several, "--json").json["patients"]
    (several / "Broken").mkdir()
    (several / "Broken" / "image_0.png").write_bytes(b"no image")
    out.mkdir()
    (out / "metrics.json").write_text("{}")  # of labelled patients
    done = command("predict", tinted.run, several, "--out", out, "--report", page, "--json")
    assert done.code == 1
    assert "patients that could not be predicted: Broken: none of its 1 images" in done.err
    assert f"(1 of {len(names) + 1}); the others were" in done.err
    assert done.json["patients"] == expected
    assert list(done.json["failed"]) == ["Broken"]
    with (out / "predictions.csv").open(newline="") as file:
        assert [row["patient_id"] for row in csv.DictReader(file)] == names
    assert not (out / "metrics.json").exists()
    assert "<strong>Not predicted:</strong> Broken: none of its 1 images" in page.read_text()
    alone = command("predict", tinted.run, several / "Broken")
    assert alone.code == 1
    assert "could not be embedded: Broken: none of its 1 images" in alone.err
    assert "all others" not in alone.err


def test_predict_says_that_nothing_is_there_before_all_else(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    done = command("predict", tinted.run, tmp_path / "nowhere", "--one-patient")
    assert done.code == 1
    assert "got no such file or folder" in done.err


def test_predict_refuses_an_encoder_of_another_hash_in_one_line(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    encoder = load_encoder("resnet18", weights="random:1", image_size_px=SIZE_PX)
    for _ in embed(read_cohort(tinted.cohort), encoder, tmp_path / "x.zarr", EMBED):
        pass
    done = command("predict", tinted.run, tmp_path / "x.zarr")
    assert done.code == 1
    assert "is another encoder than that of" in done.err
    assert len(done.err.splitlines()) == 1


def test_predict_refuses_a_cohort_with_an_unknown_class_unless_it_is_merged(
    command: RunCommand, tinted: Fitted, tmp_path: Path
) -> None:
    cohort = draw_cohort(tmp_path / "c", label_is="tint", num_patients=4, first_id=60)
    (cohort / "data" / "red").rename(cohort / "data" / "crimson")
    table = (cohort / "metadata.csv").read_text().replace(",red", ",crimson")
    (cohort / "metadata.csv").write_text(table)
    done = command("predict", tinted.run, cohort)
    assert done.code == 1
    assert "no class of" in done.err
    assert "crimson (1)" in done.err
    assert command("predict", tinted.run, cohort, "--merge", "crimson=red").code == 0


def test_stress_prints_what_falls(command: RunCommand, tinted: Fitted) -> None:
    done = command(
        "stress", tinted.run, "--cohort", tinted.cohort, "--perturbations", "cohort_colour",
        "--max-cells", 2,
    )  # fmt: skip
    assert done.code == 0
    assert "cohort_colour" in done.out
    assert "24 patients, 48 cells" in done.out
    assert "relies on colour" in done.err
    table, (sentence,) = stress_table(tinted.run)
    assert [row[0] for row in table.rows[::2]] == ["unchanged", "cohort_colour"]
    assert [table.rows[i][0] for i in sorted(table.soft_rows)] == ["floor: colour"] * 2
    assert sentence.startswith("relies on colour")
