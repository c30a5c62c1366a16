"""New and changed images of a run whose stains were normalised go the same way."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aml_mil.cohort import read_cohort
from aml_mil.embedding import EmbedConfig, embed
from aml_mil.embedding.colour import RgbImage, to_pixels
from aml_mil.embedding.stain import recorded_reference
from aml_mil.encoders import load_encoder
from aml_mil.evaluation import EvaluationError, reembedding
from aml_mil.evaluation.predict import predict_source
from aml_mil.evaluation.reembedding import Change
from aml_mil.evaluation.stress import StressReport, stress
from aml_mil.mil import open_run
from stores import open_store
from tests.evaluation.cohorts import EMBED, SIZE_PX, Fitted, draw_cohort, fit_on

GAINS, SHIFT = np.array([1.06, 0.8, 0.76]), np.array([-5, 30, 10])
STAINED = dataclasses.replace(EMBED, stain="patient")


@pytest.fixture(scope="module")
def stained(tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """A cohort whose label is the form, every patient brought to one colour, and a run on it."""
    folder = tmp_path_factory.mktemp("stained")
    return fit_on(draw_cohort(folder / "cohort", label_is="form"), folder, embedding=STAINED)


@pytest.fixture(scope="module")
def external(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Other patients, whose colour alone is far from that of the cohort."""
    folder = tmp_path_factory.mktemp("external")
    cohort = draw_cohort(folder / "cohort", label_is="form", num_patients=6, seed=5, first_id=50)
    for path in (cohort / "data").rglob("*.png"):
        tinted = np.asarray(Image.open(path)) * GAINS + SHIFT
        Image.fromarray(np.rint(tinted).astype(np.uint8)).save(path)
    return cohort


def store_of(cohort: Path, path: Path, config: EmbedConfig) -> Path:
    encoder = load_encoder("resnet18", weights="random:0", image_size_px=SIZE_PX)
    for _ in embed(read_cohort(cohort), encoder, path, config):
        pass
    return path


def features_of(path: Path) -> np.ndarray:
    with open_store(path) as store:
        features = [store.read(bag_id).features for bag_id in store.bag_ids]
    return np.concatenate(features).astype(np.float64)


def test_a_patient_alone_has_the_features_of_the_store_it_is_part_of(
    stained: Fitted, tmp_path: Path
) -> None:
    run = open_run(stained.run)
    alone = predict_source(run, stained.cohort / "data" / "red" / "P05", out_dir=tmp_path)
    whole = predict_source(run, stained.store)
    with open_store(stained.store) as store:
        expected = store.read("P05").features.astype(np.float64)
    np.testing.assert_allclose(features_of(tmp_path / "features.zarr"), expected, atol=2e-3)
    place = whole.patient_ids.index("P05")
    np.testing.assert_allclose(alone.probabilities[0], whole.probabilities[place], atol=1e-6)


def test_new_patients_are_brought_to_the_runs_reference_not_to_their_own(
    stained: Fitted, external: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(stained.run, tmp_path / "bundle"))
    predict_source(open_run(bundle), external, out_dir=tmp_path / "out")
    predict_source(open_run(bundle), external, out_dir=tmp_path / "out")
    with open_store(stained.store) as store:
        reference = recorded_reference(store.manifest.preprocessing)
    wanted = dataclasses.replace(STAINED, stain_reference=reference)
    by_hand = store_of(external, tmp_path / "by_hand.zarr", wanted)
    own = store_of(external, tmp_path / "own.zarr", STAINED)
    found, expected, other = (
        features_of(path) for path in (tmp_path / "out/features.zarr", by_hand, own)
    )
    np.testing.assert_allclose(found, expected, atol=2e-3)
    assert np.abs(found - other).max() > 0.02


def test_a_store_of_another_reference_or_of_none_is_refused(
    stained: Fitted, tinted: Fitted, external: Path, tmp_path: Path
) -> None:
    other = store_of(external, tmp_path / "other.zarr", STAINED)
    raw = store_of(external, tmp_path / "raw.zarr", EMBED)
    for run, store in ((stained, other), (stained, raw), (tinted, other)):
        with pytest.raises(EvaluationError, match=r"expected preprocessing .*stain.*, got .*stain"):
            predict_source(open_run(run.run), store)


def features_under(
    fitted: Fitted, changes: list[Change], monkeypatch: pytest.MonkeyPatch
) -> np.ndarray:
    """Features of the first patient under changes of the images, as the heads are given them."""
    monkeypatch.setattr(reembedding, "apply_heads", lambda _, features: features)
    run = open_run(fitted.run)
    again = reembedding.Reembedding(run, weights=None, device="cpu", max_cells=None, seed=0)
    images = again.images(read_cohort(fitted.cohort).patients[0])
    return again.predict(images, changes, fold=0).probabilities.astype(np.float64)


def test_unchanged_images_give_the_features_of_the_store(
    stained: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    (found,) = features_under(stained, [np.copy], monkeypatch)
    with open_store(stained.store) as store:
        np.testing.assert_allclose(found, store.read("P00").features, atol=2e-3)


def test_a_change_of_the_stain_is_taken_out_as_it_would_be_of_a_new_patient(
    stained: Fitted, tinted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tint(image: RgbImage) -> RgbImage:
        return to_pixels(image * GAINS + SHIFT)

    def moved(fitted: Fitted) -> float:
        plain, changed, again = features_under(fitted, [np.copy, tint, np.copy], monkeypatch)
        np.testing.assert_array_equal(plain, again)
        return float(np.abs(plain - changed).mean() / np.abs(plain).mean())

    assert moved(stained) < 0.02 < 0.1 < moved(tinted)


def test_a_run_of_normalised_stains_does_not_rely_on_colour(stained: Fitted) -> None:
    *_, report = stress(
        open_run(stained.run), read_cohort(stained.cohort), perturbations=["cohort_colour"]
    )
    assert isinstance(report, StressReport)
    assert report.unchanged.macro["roc_auc"].averaged > 0.95
    assert not report.falls["cohort_colour"].is_clear
