"""A whole study of a tiny synthetic cohort, killed in the middle."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.study import run_study
from benchmarks.study_budget import Budget, Heads
from benchmarks.study_layout import Study
from benchmarks.study_steps import read_records
from cli.main import main as aml_mil

REPOSITORY = Path(__file__).parents[2]
SSL = "--image-size 32 --source-size 32 --epochs 2 --batch-size 16 --device cpu --workers 0"
TINY = Budget(
    num_folds=3,
    ssl_folds=(0,),
    image_size_px=32,
    simclr=SSL,
    swav=f"{SSL} --local-size 32 --local-crops 1 --prototypes 8",
    dino=f"{SSL} --local-size 32 --local-crops 1 --outputs 16",
    supervised=f"{SSL} --architecture resnet18",
    heads=(Heads(name="paper", flags="--epochs 4 --seeds 2 --widths 8,6"),),
    stain="",
    colour="",
    giga="--epochs 2 --width 16 --head-out 8",
    probe="--draws 1 --percents 50,100 --giga-draws 2 --mil-epochs 2 --resamples 50",
    stress="--max-cells 2",
)
RUN = "import sys; from pathlib import Path; from benchmarks.study import run_study; "
RUN += "from benchmarks.study_layout import Study; run_study(Study.load(Path(sys.argv[1])))"


@pytest.fixture
def study(tmp_path):
    cohort, cells = tmp_path / "cohort", tmp_path / "cells"
    aml_mil(["synth", str(cohort), "--patients", "24", "--cells", "4", "--seed", "0"])
    with (cohort / "cell_annotations.csv").open() as file:
        for i, row in enumerate(csv.DictReader(file)):
            (image,) = (cohort / "data").glob(f"*/{row['patient_id']}/{row['image']}")
            (cells / row["cell_type"]).mkdir(parents=True, exist_ok=True)
            shutil.copy(image, cells / row["cell_type"] / f"{i}{image.suffix}")
    made = Study(
        cohort=cohort,
        annotated=cells,
        out=tmp_path / "study",
        budget=TINY,
        has_cell_types=True,
        bundle=tmp_path / "model",
        about={"command": "study", "budget": "tiny", "patients": {"a": 24}, "num_files": 96},
    )
    made.out.mkdir()
    made.save()
    return made


@pytest.mark.slow
def test_a_killed_study_continues_to_page_report_and_bundle(study):
    words = [sys.executable, "-c", RUN, str(study.out)]
    process = subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    while "pretrain-swav-0" not in read_records(study.out):
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(120) != 0
    before = read_records(study.out)
    run_study(study)
    after = read_records(study.out)
    assert after["pretrain-simclr-0"] == before["pretrain-simclr-0"]
    assert after["pretrain-swav-0"]["attempts"] == 2
    assert all(record["rc"] in (0, None) for record in after.values())
    page = (study.out / "RESULTS.md").read_text()
    for heading in ("Table 1", "Self-supervised encoders", "Vectors against maps", "Stress test"):
        assert f"## {heading}" in page
    assert (study.out / "report.html").stat().st_size > 100_000
    assert not list((study.out / "figures").glob("*.png"))
    shutil.rmtree(study.out)  # the bundle brings its encoder along
    out = study.cohort.parent / "predicted"
    assert aml_mil(["predict", str(study.bundle), str(study.cohort), "--out", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text())["num_patients"] == 24
