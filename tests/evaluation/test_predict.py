import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from aml_mil.cohort import read_cohort
from aml_mil.embedding import embed
from aml_mil.encoders import load_encoder
from aml_mil.evaluation import EvaluationError
from aml_mil.evaluation.bootstrap import bootstrap_intervals
from aml_mil.evaluation.predict import predict_source
from aml_mil.mil import open_run
from stores import open_store
from tests.evaluation.cohorts import EMBED, SIZE_PX, Fitted, draw_cohort


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other patients, drawn alike."""
    folder = tmp_path_factory.mktemp("external") / "cohort"
    return draw_cohort(folder, label_is="tint", num_patients=10, seed=5, first_id=50)


def test_an_external_cohort_is_predicted_as_by_hand(
    tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    run = open_run(tinted.run)
    found = predict_source(run, external, out_dir=tmp_path / "out")
    store_path = tmp_path / "by_hand.zarr"
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    for _ in embed(read_cohort(external), encoder, store_path, EMBED):
        pass
    rows, truth = [], []
    with open_store(store_path) as store, torch.no_grad():
        for bag_id in found.patient_ids:
            bag = store.read(bag_id)
            cells = torch.from_numpy(bag.features).float()
            logits = [run.head(fold, seed)(cells).logits for fold in range(3) for seed in range(2)]
            rows.append(torch.stack(logits).softmax(dim=1).mean(dim=0).numpy())
            truth.append(bag.label == "red")
    np.testing.assert_allclose(found.probabilities, rows, atol=1e-6)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    auc = metrics["per_class"]["red"]["roc_auc"]
    assert auc["averaged"] == pytest.approx(roc_auc_score(truth, np.array(rows)[:, 1]))
    assert found.scores is not None
    interval = bootstrap_intervals(found.scores)["roc_auc"]["red"]
    assert (auc["low"], auc["high"]) == (interval.low, interval.high)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        first = next(csv.DictReader(file))
    assert first["patient_id"] == found.patient_ids[0]
    assert float(first["prob_red"]) == found.probabilities[0, 1]
    assert float(first["sd_red"]) == pytest.approx(found.by_replicate[:, 0, 1].std(ddof=1))
    by_one_head = replace(found, by_replicate=found.by_replicate[:1])
    assert by_one_head.records()[0]["sd_red"] is None


def test_a_second_call_embeds_only_what_is_missing(
    tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    run = open_run(tinted.run)
    first = predict_source(run, external, out_dir=tmp_path)
    log = (tmp_path / "features.zarr" / "log.jsonl").read_text()
    second = predict_source(run, external, out_dir=tmp_path)
    added = (tmp_path / "features.zarr" / "log.jsonl").read_text().removeprefix(log)
    assert '"batch"' not in added
    np.testing.assert_array_equal(first.probabilities, second.probabilities)


def test_the_folder_of_a_run_is_not_written_over(tinted: Fitted, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    with pytest.raises(EvaluationError, match=r"run is the folder of a run.*another folder"):
        predict_source(open_run(tinted.run), tinted.store, out_dir=path)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before


def test_the_runs_own_store_gives_its_predictions_and_says_so(tinted: Fitted) -> None:
    run = open_run(tinted.run)
    found = predict_source(run, tinted.store)
    assert found.known == found.patient_ids
    predictions = run.predictions()
    for fold in range(3):
        for seed in range(2):
            theirs = predictions.of_replicate(fold, seed)
            order = [theirs.patient_ids.index(p) for p in found.patient_ids]
            np.testing.assert_allclose(
                found.by_replicate[2 * fold + seed], theirs.probabilities[order], atol=1e-5
            )


def test_a_patients_folder_is_one_patient_without_a_label(tinted: Fitted, external: Path) -> None:
    run = open_run(tinted.run)
    whole = predict_source(run, external)
    found = predict_source(run, external / "data" / "red" / "P51")
    assert found.patient_ids == ("P51",)
    assert found.labels == (None,)
    assert found.assessment is None
    place = whole.patient_ids.index("P51")
    np.testing.assert_allclose(found.probabilities[0], whole.probabilities[place], atol=1e-6)


def test_an_encoder_of_another_hash_is_refused(tinted: Fitted, external: Path) -> None:
    run = open_run(tinted.run)
    with pytest.raises(EvaluationError, match=r"weights random:1 is another encoder.*weights_sha"):
        predict_source(run, external, weights="random:1")


def test_a_store_of_another_encoder_is_refused(
    tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    encoder = load_encoder("resnet18", weights="random:1", image_size_px=SIZE_PX)
    for _ in embed(read_cohort(external), encoder, tmp_path / "other.zarr", EMBED):
        pass
    with pytest.raises(EvaluationError, match=r"other.zarr is another encoder.*weights_sha256"):
        predict_source(open_run(tinted.run), tmp_path / "other.zarr")


def test_stores_of_the_folds_with_other_patients_are_refused(
    tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    document = json.loads((path / "config.json").read_text())
    document["stores"] = [{**document["stores"][0], "fold": fold} for fold in range(3)]
    (path / "config.json").write_text(json.dumps(document))
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    cohort = read_cohort(external)
    for fold in range(3):
        present = tuple(p for i, p in enumerate(cohort.patients[:4]) if i != fold)
        store = tmp_path / f"new{fold}.zarr"
        for _ in embed(replace(cohort, patients=present), encoder, store, EMBED):
            pass
    with pytest.raises(EvaluationError, match=r"different patients: P50, P51 \(2\) .*new1\.zarr"):
        predict_source(open_run(path), tmp_path / "new{fold}.zarr")


def test_a_label_that_is_no_class_of_the_run_is_refused(
    tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    cohort = Path(shutil.copytree(external, tmp_path / "cohort"))
    table = (cohort / "metadata.csv").read_text().replace("P50,blue", "P50,green")
    (cohort / "metadata.csv").write_text(table)
    (cohort / "data" / "green").mkdir()
    (cohort / "data" / "blue" / "P50").rename(cohort / "data" / "green" / "P50")
    with pytest.raises(EvaluationError, match=r"no class of .*: green \(1\).*blue, red"):
        predict_source(open_run(tinted.run), cohort)


def test_weights_that_have_moved_are_asked_for(
    tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    run_path = Path(shutil.copytree(tinted.run, tmp_path / "run"))
    document = json.loads((run_path / "config.json").read_text())
    document["stores"][0]["weights"] = "gone.safetensors"
    (run_path / "config.json").write_text(json.dumps(document))
    with pytest.raises(EvaluationError, match=r"gone\.safetensors.*--weights FILE"):
        predict_source(open_run(run_path), external)
    assert predict_source(open_run(run_path), external, weights="random:0").patient_ids
