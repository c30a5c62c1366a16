"""`aml-mil fit-mil` on the command line."""

import signal
from pathlib import Path

import numpy as np
import pytest

from aml_mil.cohort.folds import roles_of, write_folds
from aml_mil.mil import open_run
from aml_mil.mil.checkpoint import CHECKPOINT_FILE
from aml_mil.mil.splits import format_split
from stores import Bag, copy_store, create_store, open_store
from tests.command_line import runner
from tests.mil.cases import NUM_FEATURES, manifest, write_store
from tests.signalled import run_until

REPOSITORY = Path(__file__).parents[2]
FAST = ("--num-folds", 3, "--seeds", 1, "--epochs", 2, "--widths", "8,6", "--device", "cpu")
FOLDS = {f"P{i:02d}": i // 3 % 3 for i in range(30)}


@pytest.fixture
def aml_mil(capsys):
    return runner(capsys)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store") / "toy.zarr")


def assert_one_line(outcome, *words, code=1):
    assert outcome.code == code, outcome.err
    assert "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.err.strip().splitlines()[-1]


def test_several_stores_give_a_folder_and_a_table_each(aml_mil, store, tmp_path):
    other = write_store(tmp_path / "other.h5store", seed=4)
    out = tmp_path / "runs"
    outcome = aml_mil("fit-mil", store, other, "--out", out, *FAST)
    assert outcome.code == 0, outcome.err
    for name in ("toy", "other"):
        assert open_run(out / name).metrics["macro"]
        assert f"run folder: {out / name}" in outcome.err
        assert f" {name} " in outcome.out
    again = aml_mil("fit-mil", store, other, "--out", out, *FAST, "--json")
    assert [run["is_new"] for run in again.json["runs"]] == [False, False]
    assert again.err.count("holds this very run already, finished") == 2


def test_a_store_at_a_url_is_trained_on_as_a_local_one(aml_mil, store, tmp_path):
    url = f"memory://{tmp_path.name}/toy.zarr"
    list(copy_store(open_store(store), url))
    for name, place in (("local", store), ("url", url)):
        outcome = aml_mil("fit-mil", place, "--out", tmp_path / name, *FAST, "--json")
        assert outcome.code == 0, outcome.err
    assert (tmp_path / "url/heads.safetensors").read_bytes() == (
        tmp_path / "local/heads.safetensors"
    ).read_bytes()
    assert open_run(tmp_path / "url").document["stores"][0]["path"] == url


def test_maps_are_trained_on_and_their_heads_opened(aml_mil, tmp_path):
    path = write_store(tmp_path / "maps.zarr", feature_shape=(NUM_FEATURES, 5, 5))
    words = ("--widths", "8,6,6,5", "--standardize", "--precision", "bf16")
    outcome = aml_mil("fit-mil", path, "--out", tmp_path / "run", *FAST, *words, "--json")
    assert outcome.code == 0, outcome.err
    head = open_run(tmp_path / "run").head(0, 0)
    assert head.reduction[0].weight.shape == (8, NUM_FEATURES, 2, 2)
    assert 0 <= outcome.json["macro"]["roc_auc"]["mean"] <= 1
    gap = outcome.json["probability_gap_to_fp32"]
    assert 0 < gap < 0.05
    assert f"in fp32: {gap:.2g}" in outcome.err


def test_two_classes_and_bags_of_one_to_three_thousand_cells(aml_mil, tmp_path):
    sizes = np.array([1, 3000, *np.random.default_rng(0).integers(1, 9, 22)])
    rng = np.random.default_rng(1)
    described = manifest(feature_shape=(166,), views=("identity",), dtype="float32")
    with create_store(tmp_path / "musk.zarr", described) as store:
        for i, size in enumerate(sizes):
            features = rng.normal(size=(size, 166)).astype(np.float32)
            ids = tuple(str(n) for n in range(size))
            bag = Bag(bag_id=f"{i}", features=features, instance_ids=ids, label="ab"[i % 2])
            store.write(bag)
    outcome = aml_mil("fit-mil", tmp_path / "musk.zarr", "--out", tmp_path / "run", *FAST, "--json")
    assert outcome.code == 0, outcome.err
    assert set(outcome.json["per_class"]) == {"a", "b"}
    assert np.load(tmp_path / "run" / "attention.npz")["scores"].shape == (1, sizes.sum(), 2)


def test_clams_splits_are_taken_from_their_folder(aml_mil, store, tmp_path):
    (tmp_path / "splits").mkdir()
    for k in range(3):
        (tmp_path / "splits" / f"splits_{k}.csv").write_text(format_split(roles_of(FOLDS, k)))
    fast = FAST[2:]
    splits, out = tmp_path / "splits", tmp_path / "run"
    assert aml_mil("fit-mil", store, "--out", out, "--folds", splits, *fast).code == 0
    assert (out / "splits_2.csv").exists()
    pattern = tmp_path / "splits" / "splits_{i}.csv"
    again = aml_mil("fit-mil", store, "--out", out, "--folds", pattern, *fast)
    assert "finished" in again.err
    missing = aml_mil("fit-mil", store, "--out", out, "--folds", tmp_path / "s_{i}.csv", *fast)
    assert_one_line(missing, "s_{i}.csv", "found 0 of them")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--pool", "mean", "--attention", "class"), "--attention has no effect with --pool mean"),
        (("--pool", "max", "--attention", "gated"), "attention: has no effect with pool max"),
        (("--pool", "mean", "--attention-hidden", "128"), "--attention-hidden has no effect"),
        (("--attention", "both"), "--attention"),
        (("--dropout", "1"), "dropout: expected"),
    ],
)
def test_a_setting_without_effect_or_out_of_range_is_wrong_usage(
    aml_mil, store, words, named, tmp_path
):
    outcome = aml_mil("fit-mil", store, "--out", tmp_path / "run", *FAST, *words)
    assert_one_line(outcome, named, code=2)
    assert not (tmp_path / "run").exists()


def test_the_store_of_a_fold_that_is_missing_is_named(aml_mil, tmp_path):
    for k in (0, 2):
        write_store(tmp_path / f"toy-{k}.zarr")
    outcome = aml_mil("fit-mil", tmp_path / "toy-{fold}.zarr", "--out", tmp_path / "run", *FAST)
    assert_one_line(outcome, "toy-1.zarr")


def test_a_store_that_knows_no_fold_is_named(aml_mil, tmp_path):
    outcome = aml_mil("fit-mil", tmp_path / "no.zarr", "--out", tmp_path / "run", *FAST)
    assert_one_line(outcome, "no.zarr")


def test_stores_of_different_cohorts_are_named(aml_mil, store, tmp_path):
    other = write_store(tmp_path / "other.zarr", num_bags=27)
    outcome = aml_mil("fit-mil", store, other, "--out", tmp_path / "run", *FAST)
    assert_one_line(outcome, "different patients: P27, P28, P29")


def test_stores_of_different_shapes_are_named(aml_mil, store, tmp_path):
    other = write_store(tmp_path / "other.zarr", feature_shape=(8,))
    outcome = aml_mil("fit-mil", store, other, "--out", tmp_path / "run", *FAST)
    assert_one_line(outcome, "feature_shape", "(16,)", "(8,)")


def test_maps_too_small_for_the_convolutions_are_refused(aml_mil, tmp_path):
    path = write_store(tmp_path / "maps.zarr", feature_shape=(NUM_FEATURES, 2, 2))
    outcome = aml_mil("fit-mil", path, "--out", tmp_path / "run", *FAST)
    assert_one_line(outcome, "maps.zarr", "expected maps of 3x3 or more", "(16, 2, 2)")


def test_an_encoder_that_has_seen_test_patients_is_named(aml_mil, tmp_path):
    path = write_store(tmp_path / "toy.zarr", trained_on=("P03", "elsewhere"))
    write_folds(tmp_path / "folds.csv", FOLDS)
    words = ("--folds", tmp_path / "folds.csv", *FAST[2:])
    outcome = aml_mil("fit-mil", path, "--out", tmp_path / "run", *words)
    assert_one_line(outcome, "P03", "fold 1", "{fold}")


def test_a_fold_that_trains_on_a_single_class_is_named(aml_mil, tmp_path):
    path = write_store(tmp_path / "toy.zarr", labels=["a"] * 10 + ["b"] * 20)
    folds = {f"P{i:02d}": int(i >= 10) * (1 + i % 2) for i in range(30)}
    write_folds(tmp_path / "folds.csv", folds)
    words = ("--folds", tmp_path / "folds.csv", *FAST[2:])
    outcome = aml_mil("fit-mil", path, "--out", tmp_path / "run", *words)
    assert_one_line(outcome, "train fold 0 on, got none of a")


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_fit_that_gets_a_signal_keeps_the_epochs_it_has_made(store, tmp_path, number):
    words = ["fit-mil", store, *FAST[:4], "--widths", "8,6", "--device", "cpu", "--epochs", 8]

    def fit(out, *, number: int) -> tuple[int, str]:
        return run_until(
            "aml_mil.mil.engine.training.cosine_lr",
            calls=3,
            signal=number,
            words=[*words, "--out", out],
            checkpoint_every_s=1e6,
        )

    code, said = fit(tmp_path / "cut", number=number)
    assert code == 130
    assert "stopping at the next good place" in said
    assert said.strip().endswith("interrupted; the same command goes on from what is kept")
    assert (tmp_path / "cut" / CHECKPOINT_FILE).exists()
    for name in ("cut", "whole"):
        code, said = fit(tmp_path / name, number=signal.SIGURG)  # which nobody minds
        assert code == 0, said
    for name in ("heads.safetensors", "history.csv", "predictions.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.slow
def test_a_killed_fit_goes_on_to_the_result_of_an_undisturbed_one(store, tmp_path):
    words = ["--num-folds", "3", "--epochs", "60", "--patience", "60", "--device", "cpu"]

    def fit(out, *, checkpoints: int) -> int:
        code, _ = run_until(
            "aml_mil.mil.program.write_checkpoint",
            calls=checkpoints,
            signal=signal.SIGKILL,
            words=["fit-mil", store, "--out", out, *words],
        )
        return code

    assert fit(tmp_path / "a", checkpoints=1_000) == 0
    assert [fit(tmp_path / "b", checkpoints=n) for n in (1, 20)] == [-signal.SIGKILL] * 2
    assert (tmp_path / "b" / CHECKPOINT_FILE).exists()
    assert not (tmp_path / "b" / "metrics.json").exists()
    assert fit(tmp_path / "b", checkpoints=1_000) == 0
    for name in ("heads.safetensors", "history.csv", "predictions.csv", "metrics.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
