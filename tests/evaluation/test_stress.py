import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aml_mil.cohort import read_cohort
from aml_mil.embedding import EmbedConfig, calibration, embed
from aml_mil.embedding.openvino_engine import has_openvino
from aml_mil.embedding.quantise import has_nncf
from aml_mil.encoders import load_encoder
from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.assessment import assess
from aml_mil.evaluation.floors import patient_colours
from aml_mil.evaluation.patients import patient_scores
from aml_mil.evaluation.reembedding import Reembedding
from aml_mil.evaluation.stress import StressConfig, StressProgress, StressReport, stress
from aml_mil.mil import open_run
from aml_mil.report.tables import stress_json, stress_rows
from stores import open_store
from tests.evaluation.cohorts import SIZE_PX, Fitted, draw_cohort, fit_on


def run_stress(fitted: Fitted, *names: str) -> StressReport:
    steps = stress(open_run(fitted.run), read_cohort(fitted.cohort), perturbations=names or None)
    *progress, report = steps
    assert all(isinstance(record, StressProgress) for record in progress)
    assert isinstance(report, StressReport)
    return report


def test_a_model_that_reads_only_the_tint_is_exposed(tinted: Fitted) -> None:
    report = run_stress(tinted, "cohort_colour", "jpeg")
    assert report.unchanged.macro["roc_auc"].averaged > 0.95
    fall = report.falls["cohort_colour"]
    assert fall.assessment.macro["roc_auc"].averaged < 0.75
    assert fall.is_clear
    assert not report.falls["jpeg"].is_clear
    (sentence,) = report.sentences
    assert sentence.startswith("relies on colour: macro ROC-AUC falls under cohort_colour by ")


def test_a_model_that_reads_only_form_is_not_exposed(tmp_path: Path) -> None:
    formed = fit_on(draw_cohort(tmp_path / "cohort", label_is="form"), tmp_path)
    report = run_stress(formed, "cohort_colour", "hue", "saturation", "background_tint")
    assert report.unchanged.macro["roc_auc"].averaged > 0.95
    assert not any(fall.is_clear for fall in report.falls.values())
    assert report.sentences[0].startswith("no perturbation lowers the macro ROC-AUC clearly")


def test_the_floor_of_colour_falls_with_the_tint(tinted: Fitted) -> None:
    run = open_run(tinted.run)
    report = run_stress(tinted, "cohort_colour", "jpeg")
    kept = run.metrics["floors"]["colour"]["roc_auc"]["averaged"]
    assert report.floor.macro["roc_auc"].averaged == pytest.approx(kept)
    assert kept > 0.95
    assert report.falls["cohort_colour"].floor.macro["roc_auc"].averaged < 0.75
    assert report.falls["jpeg"].floor.macro["roc_auc"].averaged > 0.95
    rows = stress_rows(stress_json(report))
    assert [row[0] for row in rows[::2]] == ["unchanged", "cohort_colour", "jpeg"]
    assert {row[0] for row in rows[1::2]} == {"floor: colour"}
    assert rows[1][3] == f"{kept:.2f}"


def test_without_the_colours_of_all_patients_there_is_no_floor(
    tinted: Fitted, tmp_path: Path
) -> None:
    run_path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    document = json.loads((run_path / "config.json").read_text())
    document["num_patients"] += 1  # as of a run by splits, some of whose patients only train
    (run_path / "config.json").write_text(json.dumps(document))
    report = run_stress(tinted._replace(run=run_path), "jpeg")
    assert report.floor is None
    assert [row[0] for row in stress_rows(stress_json(report))] == ["unchanged", "jpeg"]


def test_unchanged_images_give_the_runs_own_predictions(tinted: Fitted) -> None:
    run = open_run(tinted.run)
    own = patient_scores(run.predictions())
    report = run_stress(tinted, "blur")
    expected, found = assess(own).macro["brier"], report.unchanged.macro["brier"]
    assert found.mean == pytest.approx(expected.mean, abs=1e-3)
    assert report.num_cells == 96


def test_a_patient_is_predicted_by_the_heads_that_tested_it(tinted: Fitted) -> None:
    run = open_run(tinted.run)
    own = patient_scores(run.predictions())
    reembedding = Reembedding(run, weights=None, device="cpu", max_cells=None, seed=0)
    for row, patient in enumerate(read_cohort(tinted.cohort).patients[:4]):
        assert patient.patient_id == own.patient_ids[row]
        images = reembedding.images(patient)
        (found,) = reembedding.predict(images, [np.copy], fold=int(own.folds[row])).probabilities
        np.testing.assert_allclose(found, own.probabilities[:, row], atol=2e-3)


def test_every_change_is_made_to_every_image_of_the_patient(tinted: Fitted) -> None:
    reembedding = Reembedding(
        open_run(tinted.run), weights=None, device="cpu", max_cells=None, seed=0
    )
    (patient, *_) = read_cohort(tinted.cohort).patients
    images = reembedding.images(patient)
    changes = [np.copy, np.flipud, lambda image: image[..., ::-1].copy()]
    together = reembedding.predict(images, changes, fold=0).probabilities
    for change, found in zip(changes, together, strict=True):
        alone = reembedding.predict([change(image) for image in images], [np.copy], fold=0)
        np.testing.assert_array_equal(found, alone.probabilities[0])
    assert (together[0] != together[1]).all()
    assert (together[0] != together[2]).all()


@pytest.mark.parametrize(
    ("engine", "precision"), [("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32")]
)
def test_images_are_embedded_by_the_engine_of_the_store(
    tinted: Fitted, tmp_path: Path, engine: str, precision: str
) -> None:
    if engine == "openvino" and not has_openvino():
        pytest.skip("no OpenVINO here")
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    config = EmbedConfig(
        views="identity", batch_size=8, engine=engine, precision=precision, device="cpu"
    )
    for _ in embed(read_cohort(tinted.cohort), encoder, tmp_path / "s.zarr", config):
        pass
    run_path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    document = json.loads((run_path / "config.json").read_text())
    document["stores"][0]["path"] = str(tmp_path / "s.zarr")
    (run_path / "config.json").write_text(json.dumps(document))
    reembedding = Reembedding(
        open_run(run_path), weights=None, device="cpu", max_cells=None, seed=0
    )
    numerics = reembedding.numerics
    assert (numerics.engine, numerics.precision, numerics.batch_size) == (engine, precision, 8)
    (patient, *_) = read_cohort(tinted.cohort).patients
    (encoded,) = reembedding._encode(iter(reembedding.images(patient)), place=0)
    with open_store(tmp_path / "s.zarr") as store:
        stored = store.read(patient.patient_id).features
    np.testing.assert_array_equal(encoded.astype(np.float16), stored)


def test_without_the_store_the_engine_is_chosen_anew(tinted: Fitted, tmp_path: Path) -> None:
    run_path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    text = (run_path / "config.json").read_text()
    (run_path / "config.json").write_text(text.replace(str(tinted.store), str(tmp_path / "gone")))
    reembedding = Reembedding(
        open_run(run_path), weights=None, device="cpu", max_cells=None, seed=0
    )
    assert reembedding.numerics.engine == ("openvino" if has_openvino() else "torch")
    assert reembedding.numerics.batch_size == 64


@pytest.mark.skipif(not (has_openvino() and has_nncf()), reason="needs openvino and nncf")
def test_a_run_on_a_store_in_int8_is_stressed_as_embed_would_choose_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "NUM_CELLS", 8)
    cohort = draw_cohort(tmp_path / "cohort", label_is="tint", num_patients=6, cells=2)
    fitted = fit_on(cohort, tmp_path, embedding=EmbedConfig(views="identity", precision="int8"))
    reembedding = Reembedding(
        open_run(fitted.run), weights=None, device="cpu", max_cells=None, seed=0
    )
    assert (reembedding.numerics.engine, reembedding.numerics.batch_size) == ("openvino", 64)
    assert reembedding.numerics.precision != "int8"
    (patient, *_) = read_cohort(cohort).patients
    (encoded,) = reembedding._encode(iter(reembedding.images(patient)), place=0)
    with open_store(fitted.store) as store:
        stored = store.read(patient.patient_id).features.astype(np.float32)
    lengths = np.linalg.norm(encoded, axis=1) * np.linalg.norm(stored, axis=1)
    assert ((encoded * stored).sum(1) / lengths).min() > 0.99


def test_the_patients_colour_is_that_of_the_store(tinted: Fitted) -> None:
    reembedding = Reembedding(
        open_run(tinted.run), weights=None, device="cpu", max_cells=None, seed=0
    )
    measured = reembedding.measure(read_cohort(tinted.cohort).patients[0])
    with open_store(tinted.store) as store:
        colour = store.read("P00").colour
    np.testing.assert_allclose(measured, patient_colours(colour, np.array([0, len(colour)]))[0])


def test_an_unknown_perturbation_is_refused(tinted: Fitted) -> None:
    with pytest.raises(
        EvaluationError, match="unknown perturbation 'colour'; expected of cohort_c"
    ):
        run_stress(tinted, "colour")


def test_a_cohort_without_the_runs_patients_is_refused(tinted: Fitted, tmp_path: Path) -> None:
    other = draw_cohort(tmp_path / "other", label_is="tint", num_patients=6)
    with pytest.raises(
        EvaluationError, match=r"not in .*: P06, P07, P08, P09, P10, … \(18 of 24\)"
    ):
        list(stress(open_run(tinted.run), read_cohort(other)))


def test_max_cells_must_be_positive() -> None:
    with pytest.raises(ValueError, match="max_cells: expected 1 or more, got 0"):
        StressConfig(max_cells=0)
