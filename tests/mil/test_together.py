"""Several encoders in one program, interrupted fits that go on, splits of CLAM."""

import csv
import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from aml_mil.cohort.errors import FoldsError
from aml_mil.cohort.folds import roles_of
from aml_mil.evaluation.random_floor import assess_random_floor
from aml_mil.mil import (
    FitError,
    RunExistsError,
    StoresDifferError,
    fit,
    fit_encoders,
    open_run,
    program,
)
from aml_mil.mil.checkpoint import CHECKPOINT_FILE
from aml_mil.mil.splits import format_split, read_splits
from stores import open_store
from tests.mil.cases import small_config, write_store

CONFIG = small_config(num_folds=3, seeds=2, epochs=4, precision="fp64")
FOLDS = {f"P{i:02d}": i // 3 % 3 for i in range(30)}
FILES = ("predictions.csv", "history.csv", "heads.safetensors", "attention.npz", "metrics.json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One store for all folds, and one per fold."""
    path = tmp_path_factory.mktemp("stores")
    write_store(path / "dino.zarr", seed=7)
    for k in range(3):
        write_store(path / f"simclr-fold{k}.zarr", seed=k)
    return path


@pytest.fixture(scope="module")
def together(folder):
    stores = [folder / "dino.zarr", folder / "simclr-fold{fold}.zarr"]
    records = list(fit_encoders(stores, out_dir=folder / "runs", config=CONFIG, folds=FOLDS))
    return records, folder / "runs"


def _difference(first, second):
    """Largest difference between the weights of two runs."""
    return max(
        (value - second.head(fold, seed).state_dict()[name]).abs().max().item()
        for fold, seed in itertools.product(range(3), range(2))
        for name, value in first.head(fold, seed).state_dict().items()
    )


def test_each_encoder_has_a_run_of_its_own_as_if_it_were_alone(folder, together):
    records, runs = together
    assert sorted(p.name for p in runs.iterdir()) == ["dino", "simclr-fold"]
    assert [r.run_dir.name for r in records[-2:]] == ["dino", "simclr-fold"]
    for name, store in (("dino", "dino.zarr"), ("simclr-fold", "simclr-fold{fold}.zarr")):
        *_, summary = fit(
            folder / store, out_dir=folder / f"alone-{name}", config=CONFIG, folds=FOLDS
        )
        alone, in_company = open_run(summary.run_dir), open_run(runs / name)
        assert _difference(alone, in_company) < 1e-8
        assert alone.document == in_company.document
        np.testing.assert_allclose(
            alone.predictions().probabilities, in_company.predictions().probabilities, atol=1e-8
        )
    assert _difference(open_run(runs / "dino"), open_run(runs / "simclr-fold")) > 1e-3


def test_finished_encoders_are_left_alone_and_new_ones_join(folder, together, tmp_path):
    _, runs = together
    other = write_store(tmp_path / "swav.zarr", seed=3)
    stores = [folder / "dino.zarr", other]
    before = {name: (runs / "dino" / name).stat().st_mtime_ns for name in FILES}
    *records, first, second = fit_encoders(stores, out_dir=runs, config=CONFIG, folds=FOLDS)
    assert [s.is_new for s in (first, second)] == [False, True]
    assert [s.run_dir.name for s in (first, second)] == ["dino", "swav"]
    assert len(records) == 3 * 2 * 4
    assert {name: (runs / "dino" / name).stat().st_mtime_ns for name in FILES} == before


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_bags": 29}, r"stores hold different patients: P29 \(1\)"),
        ({"feature_shape": (8,)}, r"differ in feature_shape: \(16,\) and \(8,\)"),
    ],
)
def test_encoders_that_cannot_train_together_are_refused(folder, values, message, tmp_path):
    other = write_store(tmp_path / "other.zarr", **values)
    with pytest.raises(StoresDifferError, match=message):
        fit_encoders([folder / "dino.zarr", other], out_dir=tmp_path / "runs", config=CONFIG)
    assert not (tmp_path / "runs").exists()


def test_encoders_of_the_same_name_are_refused(folder, tmp_path):
    stores = [folder / "dino.zarr", tmp_path / "dino.h5store"]
    with pytest.raises(FitError, match="different names, which their runs take, got dino, dino"):
        fit_encoders(stores, out_dir=tmp_path / "runs", config=CONFIG)


@pytest.mark.parametrize("interrupted_after", [1, 3])
def test_an_interrupted_fit_goes_on_to_the_same_result(
    folder, together, interrupted_after, tmp_path, monkeypatch
):
    _, runs = together
    monkeypatch.setattr(program, "CHECKPOINT_EVERY_S", 0)
    stores = [folder / "dino.zarr", folder / "simclr-fold{fold}.zarr"]
    out_dir = tmp_path / "runs"
    fitting = fit_encoders(stores, out_dir=out_dir, config=CONFIG, folds=FOLDS)
    before = list(itertools.islice(fitting, 12 * interrupted_after))
    assert (out_dir / CHECKPOINT_FILE).exists()
    trained = []
    run_epoch = program.Training.run_epoch
    monkeypatch.setattr(
        program.Training, "run_epoch", lambda t: trained.append(t.epoch) or run_epoch(t)
    )
    after = list(fit_encoders(stores, out_dir=out_dir, config=CONFIG, folds=FOLDS))
    assert after[: len(before)] == before
    assert trained == list(range(interrupted_after, 4))
    assert not (out_dir / CHECKPOINT_FILE).exists()
    for run, name in itertools.product(("dino", "simclr-fold"), FILES):
        ours = (out_dir / run / name).read_bytes()
        assert ours == (runs / run / name).read_bytes()


def test_interrupted_encoders_are_not_written_over_by_other_settings(folder, tmp_path):
    stores = [folder / "dino.zarr", folder / "simclr-fold{fold}.zarr"]
    out_dir = tmp_path / "runs"
    config = replace(CONFIG, seeds=1, epochs=2)
    fitting = fit_encoders(stores, out_dir=out_dir, config=config, folds=FOLDS)
    list(itertools.islice(fitting, 6))
    fitting.close()
    kept = (out_dir / CHECKPOINT_FILE).read_bytes()
    with pytest.raises(RunExistsError, match=r"dino holds another run: lr is 0.1, not 0.2"):
        fit_encoders(stores, out_dir=out_dir, config=replace(config, lr=0.2), folds=FOLDS)
    assert (out_dir / CHECKPOINT_FILE).read_bytes() == kept
    again = list(fit_encoders(stores, out_dir=out_dir, config=config, folds=FOLDS))
    assert [s.is_new for s in again[-2:]] == [True, True]


def test_copies_of_a_store_go_on_apart(folder, tmp_path):
    shutil.copytree(folder / "dino.zarr", tmp_path / "copy.zarr")
    stores = [folder / "dino.zarr", tmp_path / "copy.zarr"]
    config = replace(CONFIG, seeds=1, epochs=2)
    fitting = fit_encoders(stores, out_dir=tmp_path / "runs", config=config, folds=FOLDS)
    list(itertools.islice(fitting, 6))
    fitting.close()
    list(fit_encoders(stores, out_dir=tmp_path / "runs", config=config, folds=FOLDS))
    first, second = ((tmp_path / "runs" / n / "history.csv").read_text() for n in ("dino", "copy"))
    assert len(first.splitlines()) == len(second.splitlines()) == 1 + 3 * 2


def test_a_checkpoint_of_another_store_is_not_gone_on_from(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(program, "CHECKPOINT_EVERY_S", 0)
    write_store(tmp_path / "toy.zarr", seed=1)
    fitting = fit(tmp_path / "toy.zarr", out_dir=tmp_path / "a", config=CONFIG, folds=FOLDS)
    list(itertools.islice(fitting, 12))
    (tmp_path / "b").mkdir()
    *first, _ = fit(folder / "dino.zarr", out_dir=tmp_path / "c", config=CONFIG, folds=FOLDS)
    fit(folder / "dino.zarr", out_dir=tmp_path / "b", config=CONFIG, folds=FOLDS)
    (tmp_path / "a" / CHECKPOINT_FILE).rename(tmp_path / "b" / CHECKPOINT_FILE)
    *second, _ = fit(folder / "dino.zarr", out_dir=tmp_path / "b", config=CONFIG, folds=FOLDS)
    assert first == second


@pytest.fixture
def splits(tmp_path):
    """Three splits as CLAM writes them; P29 is in none, P28 is trained on only."""
    for k in range(3):
        roles = roles_of({p: f for p, f in FOLDS.items() if p not in ("P28", "P29")}, k)
        (tmp_path / f"splits_{k}.csv").write_text(
            format_split(
                type(roles)(
                    train=(*roles.train, "P28"), validation=roles.validation, test=roles.test
                )
            )
        )
    return tmp_path


def test_splits_of_clam_are_followed_and_kept(folder, splits):
    folds = read_splits(splits)
    *_, summary = fit(folder / "dino.zarr", out_dir=splits / "run", config=CONFIG, folds=folds)
    names = {p.name for p in summary.run_dir.iterdir()}
    assert {"splits_0.csv", "splits_1.csv", "splits_2.csv"} < names
    assert "folds.csv" not in names
    assert read_splits(summary.run_dir) == folds
    with (summary.run_dir / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    roles = {(row["patient_id"], row["role"]) for row in rows}
    assert {role for p, role in roles if p == "P28"} == {"train"}
    assert "P29" not in {p for p, _ in roles}
    assert len([r for r in rows if r["role"] == "test"]) == 28 * 2
    assert summary.metrics["macro"]["roc_auc"]["mean"] > 0
    assert set(summary.metrics["floors"]) >= {"class_prior", "colour", "mean_pooling"}
    attention = np.load(summary.run_dir / "attention.npz")
    place = attention["bag_ids"].tolist().index("P29")
    assert np.isnan(attention["scores"][:, attention["offsets"][place] :]).all()
    assert np.isfinite(attention["scores"][:, : attention["offsets"][place - 1]]).all()


def test_splits_of_the_folds_train_the_same_heads(folder, together):
    _, runs = together
    roles = [roles_of(FOLDS, k) for k in range(3)]
    fitting = fit(folder / "dino.zarr", out_dir=folder / "splits", config=CONFIG, folds=roles)
    *_, summary = fitting
    assert _difference(open_run(summary.run_dir), open_run(runs / "dino")) < 1e-8
    metrics = json.loads((runs / "dino" / "metrics.json").read_text())
    assert summary.metrics["floors"] == metrics["floors"]


def test_floors_learn_from_no_more_patients_than_the_heads_of_a_split(folder, tmp_path):
    roles = [roles_of(FOLDS, k) for k in range(3)]
    few = [replace(r, train=r.train[:3], validation=r.validation[:3]) for r in roles]
    config = small_config(num_folds=3, seeds=1, epochs=1)
    *_, summary = fit(folder / "dino.zarr", out_dir=tmp_path / "run", config=config, folds=few)
    with open_store(folder / "dino.zarr") as store:
        sizes = {p: len(store.read(p).instance_ids) for p in store.bag_ids}
        labels = {p: store.record(p).label for p in store.bag_ids}
    aucs = []
    for split in few:
        own = (*split.train, *split.validation)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        model.fit([[sizes[p]] for p in own], [labels[p] for p in own])
        found = model.predict_proba([[sizes[p]] for p in split.test])
        truth = [labels[p] for p in split.test]
        aucs.append(roc_auc_score(truth, found, multi_class="ovr"))
    assert summary.metrics["floors"]["cell_count"]["roc_auc"]["mean"] == pytest.approx(
        np.mean(aucs)
    )
    random = assess_random_floor(open_run(summary.run_dir).predictions(), folder / "dino.zarr")
    pooled = summary.metrics["floors"]["mean_pooling"]["brier"]["mean"]
    assert random.macro["brier"].mean == pytest.approx(pooled)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",train,val,test\n0,P00,P03,\n", "expected patients in column test of .*splits_1.csv"),
        (",train,val,test\n0,X1,P03,P06\n", "split 1 names patients that the store does not hold"),
        (",train,val,test\n0,P00,P03,P03\n", "split 1 names patients twice: P03"),
        (",train,val,test\n0,P01,P03,P00\n", r"patients are tested in several splits: P00 \(1 of"),
    ],
)
def test_splits_that_cannot_be_followed_are_refused(folder, splits, text, message):
    (splits / "splits_1.csv").write_text(text)
    with pytest.raises(FoldsError, match=message):
        fit(folder / "dino.zarr", out_dir=splits / "run", config=CONFIG, folds=read_splits(splits))


def test_no_splits_are_refused(splits):
    for k in range(3):
        (splits / f"splits_{k}.csv").unlink()
    with pytest.raises(FoldsError, match=r"expected splits_\{i\}.csv from 0 .*, found 0 of them"):
        read_splits(splits / "splits_{i}.csv")


def test_splits_with_a_gap_are_refused(splits):
    (splits / "splits_1.csv").unlink()
    with pytest.raises(FoldsError, match=r"without a gap .*, found 2 of them and no splits_1.csv"):
        read_splits(splits)


def test_fewer_than_three_folds_are_not_made(folder, tmp_path):
    config = replace(CONFIG, num_folds=2)
    with pytest.raises(FoldsError, match=r"num_folds: expected 3 or more .* got 2"):
        fit(folder / "dino.zarr", out_dir=tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()


def test_one_split_trains_the_heads_of_that_fold_beside_its_floors(folder, together):
    _, runs = together
    out_dir = folder / "one-split"
    fitting = fit(folder / "dino.zarr", out_dir=out_dir, config=CONFIG, folds=[roles_of(FOLDS, 0)])
    *_, summary = fitting
    alone, among = open_run(out_dir), open_run(runs / "dino")
    assert summary.num_replicates == 2
    for seed in range(2):
        ours, theirs = (run.head(0, seed).state_dict() for run in (alone, among))
        assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-8
    fold_0 = among.predictions().take(np.flatnonzero(among.predictions().folds == 0).tolist())
    assert alone.predictions().roles == fold_0.roles
    tested = fold_0.of_role("test")
    floors = summary.metrics["floors"]
    assert set(floors) == {"class_prior", "cell_count", "colour", "mean_pooling"}
    assert floors["mean_pooling"]["roc_auc"]["mean"] == 1.0  # a quarter of the cells tells
    # The random floor, of the same store: learns from the 18 patients that the fold does not test.
    random = assess_random_floor(alone.predictions(), folder / "dino.zarr")
    assert random.num_patients == len(set(tested.patient_ids)) == 12
    assert random.macro["roc_auc"].mean == floors["mean_pooling"]["roc_auc"]["mean"]


def test_the_random_floor_of_maps_is_of_what_mean_pooling_takes(tmp_path):
    sizes = np.full(30, 4)
    path = write_store(tmp_path / "maps.zarr", feature_shape=(16, 3, 3), sizes=sizes)
    config = small_config(num_folds=3, seeds=1, epochs=1, widths=(8, 6))
    *_, summary = fit(path, out_dir=tmp_path / "run", config=config, folds=FOLDS)
    floor = summary.metrics["floors"]["mean_pooling"]
    random = assess_random_floor(open_run(summary.run_dir).predictions(), path).to_json()
    assert random["macro"] == {name: floor[name] for name in random["macro"]}


@pytest.mark.parametrize("pool", ["mean", "max"])
def test_a_run_without_attention_writes_none(folder, pool, tmp_path):
    config = small_config(num_folds=3, seeds=1, epochs=2, pool=pool, attention_hidden=128)
    *_, summary = fit(folder / "dino.zarr", out_dir=tmp_path / "run", config=config, folds=FOLDS)
    assert not (summary.run_dir / "attention.npz").exists()
    run = open_run(summary.run_dir)
    test = run.predictions().of_role("test")
    with open_store(folder / "dino.zarr") as store:
        cells = torch.from_numpy(store.read(test.patient_ids[0]).features).float()
    logits = run.head(int(test.folds[0]), 0)(cells).logits
    np.testing.assert_allclose(logits.softmax(0).detach(), test.probabilities[0], atol=1e-6)
