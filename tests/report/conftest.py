"""A run whose names try to be markup, and the report of it."""

import csv
from pathlib import Path
from typing import NamedTuple

import pytest

from aml_mil.cohort import read_cohort
from aml_mil.embedding import embed
from aml_mil.encoders import load_encoder
from aml_mil.mil import FitConfig, fit
from tests.command_line import RunCommand, runner
from tests.evaluation.cohorts import EMBED, SIZE_PX, draw_cohort

EVIL_PATIENT = "<script>alert(1)</script>"
EVIL_LABEL = "red<img src=x onerror=alert(2)>"
EVIL_TYPE = "</script><b>blast"


class EvilRun(NamedTuple):
    """A cohort as a table, its store, and a run on it."""

    cohort: Path
    store: Path
    run: Path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> RunCommand:
    return runner(capsys)


@pytest.fixture(scope="session")
def evil(tmp_path_factory: pytest.TempPathFactory) -> EvilRun:
    """24 patients of 12 cells; ids, labels and cell types with markup in them."""
    folder = tmp_path_factory.mktemp("evil")
    drawn = draw_cohort(folder / "cohort", label_is="form", cells=12)
    table = folder / "cells.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("patient_id", "image_path", "label", "cell_type"))
        for patient in read_cohort(drawn).patients:
            patient_id = EVIL_PATIENT if patient.patient_id == "P00" else patient.patient_id
            label = EVIL_LABEL if patient.label == "red" else patient.label
            for cell in patient.cells:
                kind = EVIL_TYPE if cell.cell_type == "myeloblast" else cell.cell_type
                writer.writerow((patient_id, cell.path, label, kind))
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    for _ in embed(read_cohort(table), encoder, folder / "features.zarr", EMBED):
        pass
    config = FitConfig(
        num_folds=3, seeds=2, epochs=4, fold_seed=1, widths=(8, 8), attention_hidden=8
    )
    for _ in fit(folder / "features.zarr", out_dir=folder / "run", config=config):
        pass
    return EvilRun(table, folder / "features.zarr", folder / "run")
