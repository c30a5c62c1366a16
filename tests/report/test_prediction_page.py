"""What becomes of whatever is handed to `aml-mil predict --report`."""

import csv
import html
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_line import Outcome, RunCommand
from tests.evaluation.cohorts import SIZE_PX, draw_cohort
from tests.report.conftest import EvilRun


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A patient drawn like those of the run."""
    folder = tmp_path_factory.mktemp("new") / "cohort"
    draw_cohort(folder, label_is="form", num_patients=2, cells=30, seed=7, first_id=90)
    return folder / "data" / "red" / "P91"


def predict(command: RunCommand, evil: EvilRun, source: Path, out: Path) -> tuple[Outcome, str]:
    done = command("predict", evil.run, source, "--report", out)
    return done, html.unescape(out.read_text(encoding="utf-8")) if out.exists() else ""


def write_noise(folder: Path, count: int) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(count):
        pixels = rng.integers(0, 256, (SIZE_PX, SIZE_PX, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image_{i}.png")
    return folder


def test_a_patient_like_the_others_is_shown_without_a_warning(
    command: RunCommand, evil: EvilRun, patient: Path, tmp_path: Path
) -> None:
    done, page = predict(command, evil, patient, tmp_path / "page.html")
    assert done.code == 0
    assert "For research use only" in page
    assert "Warning:" not in page
    assert "6 heads)" in page
    assert page.count("data:image/webp;base64,") == 2 * 12
    assert "script-src 'none'" in page
    assert "<script" not in page


def test_a_folder_of_no_cells_is_warned_of_and_the_command_succeeds(
    command: RunCommand, evil: EvilRun, tmp_path: Path
) -> None:
    source = write_noise(tmp_path / "noise", 40)
    done, page = predict(command, evil, source, tmp_path / "page.html")
    assert done.code == 0
    assert "noise: far from the training patients" in done.err
    assert "Warning: far from the training patients" in page.replace("<strong>", "").replace(
        "</strong>", ""
    )


def test_one_image_is_predicted_and_called_too_few(
    command: RunCommand, evil: EvilRun, tmp_path: Path
) -> None:
    done, page = predict(command, evil, write_noise(tmp_path / "one", 1), tmp_path / "page.html")
    assert done.code == 0
    for said in (done.err, page):
        assert "too few cells to be held against the training patients: 1, it takes 10" in said


def test_a_truncated_file_is_left_out_and_named(
    command: RunCommand, evil: EvilRun, patient: Path, tmp_path: Path
) -> None:
    source = tmp_path / "P91"
    source.mkdir()
    for path in patient.iterdir():
        data = path.read_bytes()
        (source / path.name).write_bytes(data[:200] if path.name == "image_3.png" else data)
    done, page = predict(command, evil, source, tmp_path / "page.html")
    assert done.code == 0
    for said in (done.err, page):
        assert "damaged files left out: image_3.png (truncated png" in said
    assert "29 cells" in page


@pytest.mark.parametrize("others", [0, 3])
def test_a_folder_without_images_is_one_clear_line(
    command: RunCommand, evil: EvilRun, tmp_path: Path, others: int
) -> None:
    source = tmp_path / "nothing"
    source.mkdir()
    for i in range(others):
        (source / f"{i}.txt").write_text("no image")
    done, page = predict(command, evil, source, tmp_path / "page.html")
    assert done.code == 1
    assert f"found none and {others} other files" in done.err
    assert "Traceback" not in done.err
    assert not page


def test_an_image_in_place_of_a_folder_is_one_clear_line(
    command: RunCommand, evil: EvilRun, patient: Path, tmp_path: Path
) -> None:
    done, _ = predict(command, evil, patient / "image_0.png", tmp_path / "page.html")
    assert done.code == 1
    assert "got one image" in done.err


def test_several_patients_have_a_list_and_far_ones_stand_first(
    command: RunCommand, evil: EvilRun, patient: Path, tmp_path: Path
) -> None:
    noise = write_noise(tmp_path / "noise", 20)
    table = tmp_path / "cells.csv"
    rows = [("patient_id", "image_path", "label")]
    rows += [("a", str(path), "") for path in sorted(patient.iterdir())]
    rows += [("b<i>", str(path), "") for path in sorted(noise.iterdir())]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    out = tmp_path / "out"
    done = command("predict", evil.run, table, "--report", tmp_path / "p.html", "--out", out)
    assert done.code == 0
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.index("b&lt;i&gt;</a>") < page.index(">a</a>")
    assert "b<i>" not in page
    with (out / "predictions.csv").open(newline="") as file:
        distances = {row["patient_id"]: float(row["distance"]) for row in csv.DictReader(file)}
    assert distances["a"] < 1 < distances["b<i>"]


def test_a_store_is_predicted_without_pictures(
    command: RunCommand, evil: EvilRun, tmp_path: Path
) -> None:
    done, page = predict(command, evil, evil.store, tmp_path / "page.html")
    assert done.code == 0
    assert "data:image/webp" not in page
    assert "fitted on this very patient" in page
