from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aml_mil.cohort import (
    Cohort,
    LayoutError,
    RenderProgress,
    decode_image,
    make_folds,
    read_cohort,
    render_cohort,
)
from aml_mil.cohort.synthetic import DECIDING_TYPES, draw_types


def render(out: Path, patients: int, cells: int, seed: int = 0) -> list[RenderProgress]:
    return list(render_cohort(out, num_patients=patients, cells_per_patient=cells, seed=seed))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    root = tmp_path_factory.mktemp("synthetic")
    render(root, 50, 6)
    return read_cohort(root, min_malignant_percent=20)


@pytest.fixture(scope="module")
def colours(cohort: Cohort) -> dict[str, np.ndarray]:
    """Mean and s.d. of RGB of every cell, [cells, 6], by patient."""
    found = {}
    for patient in cohort.patients:
        images = np.stack([decode_image(cell.path.read_bytes()) for cell in patient.cells])
        found[patient.patient_id] = np.hstack([images.mean((1, 2)), images.std((1, 2))])
    return found


def test_the_reader_reads_what_was_rendered(cohort: Cohort) -> None:
    assert cohort.classes == dict.fromkeys(sorted(DECIDING_TYPES), 10)
    assert all(len(p.cells) == 6 for p in cohort.patients)
    assert all(cell.cell_type for p in cohort.patients for cell in p.cells)
    assert cohort.notes == (
        "cell types: 300 of 300 rows of cell_annotations.csv join",
        "min_malignant_percent 20: dropped 0 of 40 AML patients",
    )
    assert {"age", "sex_1f_2m", "pb_myeloblast"} <= cohort.patients[0].attributes.keys()


def test_the_mixture_of_cell_types_decides_the_label(cohort: Cohort) -> None:
    deciding = {cell_type: label for label, cell_type in DECIDING_TYPES.items() if cell_type}
    for patient in cohort.patients:
        found = {deciding[c.cell_type] for c in patient.cells if c.cell_type in deciding}
        assert found == ({patient.label} - {"control"})


def test_colour_does_not_decide_the_label(cohort: Cohort, colours: dict[str, np.ndarray]) -> None:
    features = np.stack([colours[p].mean(0) for p in cohort.labels])
    labels = list(cohort.labels.values())
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(model, features, labels, cv=folds, method="predict_proba")
    assert roc_auc_score(labels, predicted, multi_class="ovr") < 0.7


def test_colour_does_not_tell_the_cell_type(cohort: Cohort, colours: dict[str, np.ndarray]) -> None:
    types = np.array([c.cell_type for p in cohort.patients for c in p.cells])
    residuals = np.vstack([c - c.mean(0) for c in colours.values()])
    between = sum(
        (types == t).mean() * residuals[types == t].mean(0) ** 2 for t in sorted(set(types))
    )
    explained = between / residuals.var(0)
    assert explained.max() < 0.12  # 9 types of 300 cells: about 0.03 by chance
    assert np.ptp(np.vstack(list(colours.values())), axis=0).min() > 10  # and colours do vary


def test_files_are_a_mixture_of_rgb_and_rgba_tiffs_of_144_px(cohort: Cohort) -> None:
    modes: Counter[str] = Counter()
    for patient in cohort.patients[:5]:
        for cell in patient.cells:
            with Image.open(cell.path) as image:
                assert (image.format, image.size) == ("TIFF", (144, 144))
                modes[image.mode] += 1
    assert modes["RGB"] > 10
    assert modes["RGBA"] > 10


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        render(tmp_path / name, 2, 2, seed)
    content = {
        name: {
            path.relative_to(tmp_path / name).as_posix(): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
        }
        for name in "abc"
    }
    assert len(content["a"]) == 6
    assert content["a"] == content["b"]
    assert content["a"].keys() != content["c"].keys()


def test_progress_counts_patients_and_cells(tmp_path: Path) -> None:
    records = render(tmp_path / "new", 3, 2)
    assert [(r.patients_done, r.cells_done) for r in records] == [(1, 2), (2, 4), (3, 6)]
    assert {(r.patients_total, r.cells_total) for r in records} == {(3, 6)}


def test_an_unfinished_cohort_has_no_tables(tmp_path: Path) -> None:
    next(render_cohort(tmp_path, num_patients=2, cells_per_patient=1, seed=0))
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.parametrize("num_patients", [10, 14, 25])
def test_five_folds_can_be_made_of_ten_patients_or_more(tmp_path: Path, num_patients: int) -> None:
    render(tmp_path, num_patients, 1)
    labels = read_cohort(tmp_path).labels
    assert len(make_folds(labels, num_folds=5, seed=0)) == num_patients


@pytest.mark.parametrize("label", [label for label, decides in DECIDING_TYPES.items() if decides])
@pytest.mark.parametrize("num_cells", [1, 2, 5, 60])
def test_every_leukaemia_shows_its_deciding_type(label: str, num_cells: int) -> None:
    types = draw_types(label, num_cells, np.random.default_rng(0))
    assert len(types) == num_cells
    assert DECIDING_TYPES[label] in types


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(LayoutError, match="new or empty folder"):
        render_cohort(tmp_path, num_patients=1, cells_per_patient=1, seed=0)


@pytest.mark.parametrize(("patients", "cells"), [(0, 1), (1, 0), (17_577, 1)])
def test_numbers_out_of_range_are_an_error(tmp_path: Path, patients: int, cells: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        render_cohort(tmp_path, num_patients=patients, cells_per_patient=cells, seed=0)
