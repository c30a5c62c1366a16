import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from aml_mil.encoders import read_checkpoint
from cli.main import main
from tests.signalled import run_until
from tests.ssl.conftest import TYPES, paint

REPOSITORY = Path(__file__).parents[2]
SMALL = [
    *("--architecture", "test_resnet", "--image-size", "32", "--source-size", "32"),
    *("--batch-size", "8", "--epochs", "2", "--workers", "0", "--precision", "fp32"),
    *("--device", "cpu"),
]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """10 patients of 6 cells, annotated."""
    root = tmp_path / "cohort"
    rows, types = ["patient_id,bag_label"], ["patient_id,image,cell_type"]
    for p in range(10):
        label = "APL" if p % 2 else "AML"
        folder = root / "data" / label / f"P{p}"
        folder.mkdir(parents=True)
        rows.append(f"P{p},{label}")
        for i in range(6):
            image = paint(i % 3, side_px=32, seed=10 * p + i)
            Image.fromarray(image).save(folder / f"image_{i}.png")
            types.append(f"P{p},image_{i}.png,{TYPES[i % 3]}")
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    (root / "cell_annotations.csv").write_text("\n".join(types) + "\n")
    return root


def folds_of(cohort: Path) -> Path:
    path = cohort.parent / "folds.csv"
    assert main(["folds", str(cohort), "--num-folds", "5", "--out", str(path)]) == 0
    return path


@pytest.mark.parametrize("method", ["simclr", "swav", "dino", "supervised"])
def test_an_encoder_has_seen_the_fold_s_training_patients_only(
    method: str, cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folds = folds_of(cohort)
    capsys.readouterr()
    out = tmp_path / "encoder.safetensors"
    small = [*SMALL, "--epochs", "1"]
    small += ["--local-size", "16"] if method in ("swav", "dino") else []
    words = ["pretrain", method, str(cohort), "--out", str(out), *small, "--json"]
    assert main([*words, "--folds", str(folds), "--fold", "1"]) == 0
    facts = json.loads(capsys.readouterr().out)
    fold_of = dict(line.split(",") for line in folds.read_text().splitlines()[1:])
    trained_on = {patient for patient, fold in fold_of.items() if fold not in "12"}
    info = read_checkpoint(out)
    assert set(info.trained_on or ()) == trained_on
    assert facts["patients"] == len(trained_on) == 6
    assert facts["method"] == info.recipe["method"] == method
    assert info.recipe["cohort"]["fold"] == 1


def test_alarms_warn_and_leave_the_exit_code_at_0(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.safetensors"
    # A temperature this high tells nothing apart.
    words = ["pretrain", "simclr", str(cohort), "--out", str(out), *SMALL]
    assert main([*words, "--temperature", "1000"]) == 0
    said = capsys.readouterr()
    assert "warning: epoch" in said.err
    assert "tells nothing apart" in said.err
    assert "alarms" in said.out


def test_views_are_drawn_without_training(
    cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["pretrain", "dino", str(cohort), *SMALL, "--local-size", "16"]
    assert main([*words, "--preview", str(tmp_path / "views.png"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "preview": str(tmp_path / "views.png"),
        "cells": 6,
    }
    picture = Image.open(tmp_path / "views.png")
    assert picture.size == (11 * 36, 6 * 36)
    assert len(picture.getcolors(2**20)) > 100
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--fold", "0", "--out", "e.safetensors"], "--folds and --fold belong together"),
        ([], "either --out"),
        (["--out", "e.pt"], "ends in .safetensors"),
        (["--out", "e.safetensors", "--preview", "p.png"], "either --out"),
        (["--out", "e.safetensors", "--temperature", "0"], "temperature: expected"),
    ],
)
def test_wrong_usage_is_said_with_exit_code_2(
    words: list[str],
    message: str,
    cohort: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(cohort.parent)
    assert main(["pretrain", "simclr", str(cohort), *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "words", "message"),
    [
        ("simclr", ["--batch-size", "61"], "60 images do not fill one batch of 61"),
        ("simclr", ["--resume"], "nothing to resume"),
    ],
)
def test_bad_input_is_one_clear_line(
    method: str,
    words: list[str],
    message: str,
    cohort: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = cohort.parent / "e.safetensors"
    assert main(["pretrain", method, str(cohort), "--out", str(out), *SMALL, *words]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("aml-mil: error: ")
    assert message in last


def test_supervised_training_without_labels_is_one_clear_line(
    cohort: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cohort / "cell_annotations.csv").unlink()
    out = cohort.parent / "e.safetensors"
    assert main(["pretrain", "supervised", str(cohort), "--out", str(out), *SMALL]) == 1
    assert "needs cells of 2 types or more" in capsys.readouterr().err


def test_a_foreign_file_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import timm
    import torch

    tensors = timm.create_model("resnet18", num_classes=2).state_dict()
    torch.save(
        {"state_dict": {f"backbone.{k}": v for k, v in tensors.items() if "fc" not in k}},
        tmp_path / "solo.ckpt",
    )
    out = tmp_path / "ours.safetensors"
    words = ["pretrain", "convert", str(tmp_path / "solo.ckpt"), "--architecture", "resnet18"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["source"] == "solo-learn"
    assert read_checkpoint(out).architecture == "timm/resnet18"
    assert read_checkpoint(out).mean == (0.485, 0.456, 0.406)
    assert main([*words, "--out", str(out), "--mean", "0.8,0.7,0.75", "--std", ".2,.25,.1"]) == 0
    info = read_checkpoint(out)
    assert (info.mean, info.std) == ((0.8, 0.7, 0.75), (0.2, 0.25, 0.1))
    assert "0.8,0.7,0.75" in capsys.readouterr().out
    for wrong in (("--mean", "0.5,0.5"), ("--mean", "128,128,128"), ("--std", "0.2,0,0.2")):
        assert main([*words, "--out", str(out), *wrong]) == 2
        assert f"{wrong[0]}" in capsys.readouterr().err
    assert read_checkpoint(out) == info


@pytest.mark.slow
def test_a_terminated_run_goes_on_to_the_same_loss_curve(cohort: Path, tmp_path: Path) -> None:
    words = ["pretrain", "simclr", cohort, *SMALL, "--epochs", "6", "--workers", "1", "--out"]
    out, whole = tmp_path / "cut.safetensors", tmp_path / "whole.safetensors"
    code, said = run_until(
        "aml_mil.ssl.training_run.write_state",  # before the first epoch, and after it
        calls=2,
        signal=signal.SIGTERM,  # as a scheduler does: workers get it, too
        words=[*words, out],
    )
    assert code == 1
    assert "--resume goes on" in said
    assert len(out.with_suffix(".history.csv").read_text().splitlines()) == 3
    for rest in ([out, "--resume"], [whole]):
        assert main([str(word) for word in (*words, *rest)]) == 0
    curves = [
        [line.split(",")[:3] for line in path.with_suffix(".history.csv").read_text().splitlines()]
        for path in (out, whole)
    ]
    assert len(curves[0]) == 8
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_of_several_processes_one_speaks(cohort: Path, tmp_path: Path) -> None:
    (cohort / "data/AML/P0/image_0.png").write_bytes(b"")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    words = ["pretrain", "simclr", str(cohort), *SMALL, "--temperature", "1000"]  # an alarm

    def run(*more: str) -> str:
        done = subprocess.run(
            [*launch, "-m", "cli", "-v", *words, "--out", str(tmp_path / "e.safetensors"), *more],
            capture_output=True,
            text=True,
            check=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        return done.stderr

    said = run()
    once = ("left out: ", "read:   0%", "simclr:   0%", "epoch 1: loss ", "epoch 2: loss ")
    assert {each: said.count(each) for each in once} == dict.fromkeys(once, 1)
    warnings = re.findall("warning: epoch [^\r\n]*", said)
    assert len(warnings) == len(set(warnings)) > 0
    assert run("--resume").count("is finished already") == 1
