"""Runs from a store to a run folder."""

import csv
import itertools
import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from aml_mil.cohort.folds import make_folds, read_folds
from aml_mil.evaluation.metrics import METRICS, score_classes
from aml_mil.mil import (
    BagsError,
    FitSummary,
    LeakageError,
    RunError,
    RunExistsError,
    StoresDifferError,
    fit,
    open_run,
    program,
)
from aml_mil.mil.run_dir import start_run
from stores import open_store
from tests.mil.cases import NUM_CLASSES, bag_sizes, small_config, write_store

CONFIG = small_config(num_folds=3, seeds=2, epochs=3)


def run(store, out_dir, **values):
    *records, summary = fit(store, out_dir=out_dir, **{"config": CONFIG} | values)
    assert isinstance(summary, FitSummary)
    return records, summary


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "toy.zarr")


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    out_dir = tmp_path_factory.mktemp("runs") / "toy"
    records, summary = run(store, out_dir)
    return out_dir, records, summary


def _rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_run_folder_holds_what_it_must(finished):
    out_dir, records, summary = finished
    assert {p.name for p in out_dir.iterdir()} == {
        "config.json",
        "folds.csv",
        "heads.safetensors",
        "history.csv",
        "predictions.csv",
        "attention.npz",
        "training_features.npz",
        "metrics.json",
    }
    history = _rows(out_dir / "history.csv")
    assert list(history[0]) == ["fold", "seed", "epoch", "lr", "train_loss", "val_loss"]
    assert len(history) == len(records) == 3 * 2 * 3
    assert float(history[0]["val_loss"]) == records[0].val_loss
    assert summary.num_replicates == 6
    assert summary.num_patients == 30
    assert summary.metrics == json.loads((out_dir / "metrics.json").read_text())


def test_every_patient_is_predicted_in_every_role(finished):
    out_dir, *_ = finished
    rows = _rows(out_dir / "predictions.csv")
    folds = read_folds(out_dir / "folds.csv")
    assert len(rows) == 30 * 6
    for row in rows:
        distance = (folds[row["patient_id"]] - int(row["fold"])) % 3
        assert row["role"] == ["test", "validation", "train"][distance]
        assert sum(float(row[f"prob_class {c}"]) for c in range(NUM_CLASSES)) == pytest.approx(1)


def test_saved_heads_give_the_predictions_and_the_attention(finished, store):
    out_dir, *_ = finished
    finished_run = open_run(out_dir)
    folds = read_folds(out_dir / "folds.csv")
    attention = np.load(out_dir / "attention.npz")
    test = finished_run.predictions().of_role("test")
    with open_store(store) as opened:
        for i, patient_id in enumerate(test.patient_ids):
            head = finished_run.head(int(test.folds[i]), int(test.seeds[i]))
            cells = torch.from_numpy(opened.read(patient_id).features).float()
            output = head(cells)
            np.testing.assert_allclose(
                output.logits.softmax(0).detach(), test.probabilities[i], atol=1e-6
            )
            assert folds[patient_id] == test.folds[i]
            place = attention["bag_ids"].tolist().index(patient_id)
            span = slice(*attention["offsets"][place : place + 2])
            np.testing.assert_allclose(
                attention["scores"][test.seeds[i], span], output.scores.detach(), atol=1e-3
            )
    assert attention["scores"].dtype == np.float16


def test_training_statistics_are_those_of_each_folds_training_cells(finished, store):
    out_dir, *_ = finished
    folds = read_folds(out_dir / "folds.csv")
    statistics = np.load(out_dir / "training_features.npz")
    with open_store(store) as opened:
        cells = np.concatenate(
            [opened.read(p).features for p, k in folds.items() if k not in (1, 2)]
        )
    np.testing.assert_allclose(statistics["mean"][1], cells.astype(float).mean(0), atol=1e-12)
    np.testing.assert_allclose(statistics["sd"][1], cells.astype(float).std(0), atol=1e-12)
    assert statistics["num_cells"][1] == len(cells)


def test_metrics_have_the_model_and_its_floors(finished):
    out_dir, *_, summary = finished
    metrics = summary.metrics
    predictions = open_run(out_dir).predictions().of_role("test")
    sets = [predictions.of_replicate(fold, seed) for fold in range(3) for seed in range(2)]
    scored = [score_classes(one.targets, one.probabilities) for one in sets]
    for metric in METRICS:
        macro = np.array([np.nanmean(values[metric]) for values in scored])
        found = metrics["macro"][metric]
        assert (found["mean"], found["sd"]) == pytest.approx((macro.mean(), macro.std(ddof=1)))
    assert metrics["macro"]["roc_auc"]["low"] < metrics["macro"]["roc_auc"]["high"]
    assert set(metrics["per_class"]) == {f"class {c}" for c in range(NUM_CLASSES)}
    assert list(metrics["floors"]) == ["class_prior", "cell_count", "colour", "mean_pooling"]
    for floor in metrics["floors"].values():
        assert set(floor) >= {"f1", "roc_auc", "pr_auc", "per_class"}
        assert set(floor["roc_auc"]) == {"mean", "sd", "averaged", "low", "high"}
    assert metrics["floors"]["class_prior"]["roc_auc"]["mean"] == 0.5


def test_config_names_the_store_and_the_encoder(finished, store):
    out_dir, *_ = finished
    document = json.loads((out_dir / "config.json").read_text())
    (named,) = document["stores"]
    assert named["path"] == str(store)
    assert (named["encoder"], named["weights"], named["weights_sha256"]) == (
        "toy",
        "random:0",
        "0" * 64,
    )
    assert document["leakage"] == "unknown"
    assert document["fit"] == CONFIG.to_json()


def test_the_same_seed_twice_gives_identical_predictions(finished, store, tmp_path):
    out_dir, *_ = finished
    run(store, tmp_path / "again")
    for name in ("predictions.csv", "history.csv", "heads.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (out_dir / name).read_bytes()


def test_labels_of_test_patients_cannot_reach_their_folds_heads(store, finished, tmp_path):
    out_dir, *_ = finished
    folds = read_folds(out_dir / "folds.csv")
    labels = np.array([f"class {i % NUM_CLASSES}" for i in range(30)])
    tested = [i for i in range(30) if folds[f"P{i:02d}"] == 0]
    permuted = labels.copy()
    permuted[tested] = np.roll(labels[tested], 1)
    assert (permuted != labels).any()
    other = write_store(tmp_path / "permuted.zarr", labels=permuted.tolist())
    run(other, tmp_path / "permuted", folds=folds)
    ours, theirs = open_run(out_dir), open_run(tmp_path / "permuted")
    for fold, may_differ in ((0, False), (1, True)):  # fold 1 trains on fold 0
        same = [
            torch.equal(value, theirs.head(fold, seed).state_dict()[name])
            for seed in range(2)
            for name, value in ours.head(fold, seed).state_dict().items()
        ]
        assert all(same) != may_differ
    histories = [_rows(path / "history.csv") for path in (out_dir, tmp_path / "permuted")]
    of_fold_0 = [[row for row in rows if row["fold"] == "0"] for rows in histories]
    assert of_fold_0[0] == of_fold_0[1]


def test_each_fold_reads_its_own_store(store, finished, tmp_path):
    out_dir, *_ = finished
    folds = read_folds(out_dir / "folds.csv")
    for k in range(3):
        write_store(tmp_path / f"toy-{k}.zarr", seed=k)  # seed 0 is the other tests' store
    run(str(tmp_path / "toy-{fold}.zarr"), tmp_path / "run", folds=folds)
    ours, theirs = open_run(out_dir), open_run(tmp_path / "run")
    for fold in range(3):
        first, second = ours.head(fold, 0).state_dict(), theirs.head(fold, 0).state_dict()
        equal = all(torch.equal(first[name], second[name]) for name in first)
        assert equal == (fold == 0)
    document = json.loads((tmp_path / "run" / "config.json").read_text())
    assert [s["fold"] for s in document["stores"]] == [0, 1, 2]


def test_a_finished_run_is_recognised_and_left_alone(store, finished):
    out_dir, *_ = finished
    before = {p.name: p.stat().st_mtime_ns for p in out_dir.iterdir()}
    records, summary = run(store, out_dir)
    assert records == []
    assert not summary.is_new
    assert summary.metrics["macro"]
    assert {p.name: p.stat().st_mtime_ns for p in out_dir.iterdir()} == before


def test_another_config_is_refused_with_both_values(store, finished):
    out_dir, *_ = finished
    with pytest.raises(RunExistsError, match=r"lr is 0.1, not 0.2; name another folder"):
        fit(store, out_dir=out_dir, config=small_config(num_folds=3, seeds=2, epochs=3, lr=0.2))


def test_an_older_run_that_names_fewer_settings_is_recognised(store, finished, tmp_path):
    out_dir, *_ = finished
    older = tmp_path / "older"
    shutil.copytree(out_dir, older)
    document = json.loads((older / "config.json").read_text())
    for name in ("pool", "attention", "sampling", "dropout"):
        del document["fit"][name]
    (older / "config.json").write_text(json.dumps(document))
    _, summary = run(store, older)
    assert not summary.is_new
    assert open_run(older).head(0, 0).shape == open_run(out_dir).head(0, 0).shape


def test_another_store_is_refused(finished, tmp_path):
    out_dir, *_ = finished
    other = write_store(tmp_path / "other.zarr", seed=5)
    with pytest.raises(RunExistsError, match="its store is another, or has changed since"):
        fit(other, out_dir=out_dir, config=CONFIG)


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_store_whose_labels_have_changed_is_another(tmp_path, is_finished):
    labels = [f"class {i % NUM_CLASSES}" for i in range(30)]
    folds = {f"P{i:02d}": i // NUM_CLASSES % 3 for i in range(30)}
    store = write_store(tmp_path / "toy.zarr", labels=labels)
    training = fit(store, out_dir=tmp_path / "run", config=CONFIG, folds=folds)
    list(itertools.islice(training, None if is_finished else 8))
    training.close()
    shutil.rmtree(store)
    write_store(store, labels=[labels[1], labels[0], *labels[2:]])  # two patients corrected
    with pytest.raises(RunExistsError, match="the labels of its patients are others; name another"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG, folds=folds)


def test_an_older_run_that_names_no_labels_is_recognised(store, finished, tmp_path):
    out_dir, *_ = finished
    older = tmp_path / "older"
    shutil.copytree(out_dir, older)
    document = json.loads((older / "config.json").read_text())
    del document["labels_sha256"]
    (older / "config.json").write_text(json.dumps(document))
    _, summary = run(store, older)
    assert not summary.is_new


def test_a_run_interrupted_before_its_first_checkpoint_starts_again(store, finished, tmp_path):
    out_dir, *_ = finished
    training = fit(store, out_dir=tmp_path / "run", config=CONFIG)
    next(iter(training))
    with pytest.raises(RunError, match="was interrupted"):
        open_run(tmp_path / "run")
    run(store, tmp_path / "run")
    ours = (tmp_path / "run" / "predictions.csv").read_bytes()
    assert ours == (out_dir / "predictions.csv").read_bytes()


def test_a_fit_given_up_between_two_epochs_goes_on_from_there(
    store, finished, tmp_path, monkeypatch
):
    out_dir, records, _ = finished
    training = fit(store, out_dir=tmp_path / "run", config=CONFIG)
    before = [next(training) for _ in range(6 + 2)]  # the second epoch was over
    training.close()
    epochs = []
    run_epoch = program.Training.run_epoch
    monkeypatch.setattr(
        program.Training, "run_epoch", lambda t: epochs.append(t.epoch) or run_epoch(t)
    )
    again, _ = run(store, tmp_path / "run")
    assert epochs == [2]
    assert (before, again) == (records[:8], records)
    ours = (tmp_path / "run" / "predictions.csv").read_bytes()
    assert ours == (out_dir / "predictions.csv").read_bytes()


def test_a_fit_given_up_goes_on_on_another_device_from_a_store_that_was_moved(
    tmp_path, monkeypatch
):
    store = write_store(tmp_path / "toy.zarr")
    training = fit(store, out_dir=tmp_path / "run", config=CONFIG)
    list(itertools.islice(training, 6 + 2))  # the second epoch was over
    training.close()
    epochs = []
    run_epoch = program.Training.run_epoch
    monkeypatch.setattr(
        program.Training, "run_epoch", lambda t: epochs.append(t.epoch) or run_epoch(t)
    )
    moved = store.rename(tmp_path / "moved.zarr")
    run(moved, tmp_path / "run", config=replace(CONFIG, device="cpu"))
    assert epochs == [2]


def test_a_run_that_has_come_to_nothing_makes_room_for_another(store, finished, tmp_path):
    start_run(tmp_path / "run", {"fit": CONFIG.to_json() | {"lr": 1e30}})
    (tmp_path / "run" / "heads.safetensors.partial").write_bytes(b"of a killed process")
    _, summary = run(store, tmp_path / "run")
    assert summary.is_new
    assert open_run(tmp_path / "run").document["fit"]["lr"] == CONFIG.lr


def test_what_a_killed_process_left_of_a_file_is_nothing(store, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json.partial").write_bytes(b"{")
    _, summary = run(store, tmp_path / "run")
    assert summary.is_new


def test_stores_of_other_cells_do_not_train_together(tmp_path):
    for k in range(3):
        write_store(tmp_path / f"toy-{k}.zarr", first_id=int(k == 2))
    message = r"hold other cells, or the same in another order, for P00, .*toy-2.zarr"
    with pytest.raises(StoresDifferError, match=message):
        fit(str(tmp_path / "toy-{fold}.zarr"), out_dir=tmp_path / "run", config=CONFIG)


def test_an_empty_label_is_none(tmp_path):
    store = write_store(tmp_path / "toy.zarr", labels=["a", "b", ""] * 10)
    with pytest.raises(BagsError, match=r"got none for P02, P05"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG)


def test_products_of_16_bits_that_lose_too_much_are_told(tmp_path, caplog, monkeypatch):
    store = write_store(tmp_path / "toy.zarr")
    config = replace(CONFIG, precision="bf16")
    with caplog.at_level(logging.WARNING):
        run(store, tmp_path / "near", config=config)
        assert "lose too much in 16 bits" not in caplog.text
        monkeypatch.setattr(program, "MAX_PROBABILITY_GAP", 0)
        run(store, tmp_path / "far", config=config)
    assert "in bf16 are up to 0.0" in caplog.text
    assert "lose too much in 16 bits: use --precision fp32" in caplog.text


def test_a_folder_of_other_files_is_refused(store, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunExistsError, match="got other files"):
        fit(store, out_dir=tmp_path, config=CONFIG)


def test_a_file_is_no_folder(store, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunExistsError, match="got a file"):
        fit(store, out_dir=tmp_path / "letter.txt", config=CONFIG)


def test_a_label_rarer_than_the_folds_is_refused(tmp_path):
    labels = ["rare"] * 2 + ["common"] * 28
    store = write_store(tmp_path / "toy.zarr", labels=labels)
    with pytest.raises(Exception, match=r"fewer patients than the 3 folds: rare has 2"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG)


def test_bags_without_labels_are_refused_and_named(tmp_path):
    labels = [None, *(["a", "b"] * 15)[:29]]
    store = write_store(tmp_path / "toy.zarr", labels=labels)
    with pytest.raises(BagsError, match=r"got none for P00 \(1 of 30\)"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG)


def test_a_single_class_is_refused(tmp_path):
    store = write_store(tmp_path / "toy.zarr", labels=["a"] * 30)
    with pytest.raises(BagsError, match="two classes or more"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG)


def test_folds_of_another_cohort_are_refused(store, tmp_path):
    folds = make_folds({f"X{i}": "ab"[i % 2] for i in range(30)}, num_folds=3, seed=0)
    with pytest.raises(Exception, match="folds of another cohort"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG, folds=folds)


def test_a_fold_that_trains_without_a_class_is_refused(store, tmp_path):
    folds = {f"P{i:02d}": i // 3 % (2 if i % 3 == 0 else 3) for i in range(30)}
    with pytest.raises(BagsError, match="train fold 0 on, got none of class 0"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG, folds=folds)


def test_an_empty_bag_is_refused_and_named(tmp_path, monkeypatch):
    store = write_store(tmp_path / "toy.zarr")
    from aml_mil.mil import inputs

    def emptied(*args):
        bags = pack(*args)
        bags.offsets[8] = bags.offsets[7]
        return bags

    pack = inputs.pack_bags
    monkeypatch.setattr(inputs, "pack_bags", emptied)
    with pytest.raises(BagsError, match=r"bags without cells in .*: P07 \(1 of 30\)"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG)


def test_features_that_are_not_finite_are_refused(tmp_path, monkeypatch):
    store = write_store(tmp_path / "toy.zarr")
    from aml_mil.mil import inputs

    def damaged(*args):
        bags = pack(*args)
        bags.features[2, bags.offsets[7], 3] = np.nan
        return bags

    pack = inputs.pack_bags
    monkeypatch.setattr(inputs, "pack_bags", damaged)
    with pytest.raises(BagsError, match=r"got NaN or infinity in P07 \(1 of 30\)"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_bags": 29}, r"different patients: P29 \(1\)"),
        ({"labels": ["class 1", *[f"class {i % 3}" for i in range(1, 30)]]}, "labels for P00"),
        ({"views": ("identity",)}, "differ in views"),
        ({"sizes": bag_sizes(30) + 1}, "hold other cells"),
    ],
)
def test_stores_of_folds_that_differ_are_refused(values, message, tmp_path):
    write_store(tmp_path / "toy-0.zarr")
    write_store(tmp_path / "toy-1.zarr", **values)
    write_store(tmp_path / "toy-2.zarr")
    with pytest.raises(StoresDifferError, match=message):
        fit(str(tmp_path / "toy-{fold}.zarr"), out_dir=tmp_path / "run", config=CONFIG)


def test_an_encoder_that_has_seen_test_patients_is_refused(tmp_path):
    store = write_store(tmp_path / "toy.zarr", trained_on=("P03", "elsewhere"))
    folds = {f"P{i:02d}": i // 3 % 3 for i in range(30)}
    with pytest.raises(LeakageError, match=r"has seen test patients of fold 1: P03"):
        fit(store, out_dir=tmp_path / "run", config=CONFIG, folds=folds)
    _, summary = run(store, tmp_path / "run", folds=folds, allow_transductive=True)
    assert summary.leakage == "transductive"


def test_encoders_of_their_own_folds_training_patients_pass(tmp_path):
    folds = {f"P{i:02d}": i // 3 % 3 for i in range(30)}
    for k in range(3):
        seen = tuple(p for p, fold in folds.items() if fold == (k + 2) % 3)
        write_store(tmp_path / f"toy-{k}.zarr", trained_on=seen)
    path = str(tmp_path / "toy-{fold}.zarr")
    _, summary = run(path, tmp_path / "run", folds=folds)
    assert summary.leakage == "none"


def test_features_that_fp16_cannot_hold_are_refused_in_it(tmp_path, monkeypatch):
    from aml_mil.mil import inputs

    def enlarged(*args):
        bags = pack(*args)
        bags.features[0, bags.offsets[7], 3] = -1e5
        return bags

    store = write_store(tmp_path / "toy.zarr", dtype="float32")
    pack = inputs.pack_bags
    monkeypatch.setattr(inputs, "pack_bags", enlarged)
    expected = r"fp16 holds numbers up to 65,504, got 100,000 in P07 of .*; use --precision bf16"
    with pytest.raises(BagsError, match=expected):
        fit(store, out_dir=tmp_path / "run", config=replace(CONFIG, precision="fp16"))
    fit(store, out_dir=tmp_path / "run", config=replace(CONFIG, precision="bf16"))
