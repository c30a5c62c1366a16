"""Each patient's colour is brought to one reference before encoding."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from aml_mil.cohort import measure_colour, read_cohort
from aml_mil.embedding import EmbedConfig, EmbedError, embed_by_several, stain
from aml_mil.embedding.calibration import draw_calibration, normalise_calibration
from aml_mil.embedding.cells import load_cell
from aml_mil.embedding.colour import match_colour, pool_colours
from aml_mil.embedding.stain import draw_reference, load_normalised, recorded_reference
from stores import StoreMismatchError, open_store
from tests.command_line import runner
from tests.embedding.drawing import (
    SIZE_PX,
    bag_bytes,
    damage,
    draw_patient,
    run,
    start,
    tiny_encoder,
    write_table,
)
from tests.embedding.test_shares import run_in_ranks

REFERENCE = (120.0, 100.0, 140.0, 30.0, 25.0, 20.0)
STAINED = {"stain": "patient", "stain_reference": REFERENCE}
TINTS = {"AQK": (1.0, 0.9, 1.1, 10), "BZF": (0.8, 1.0, 1.1, -5), "CTL": (1.1, 1.0, 0.8, 20)}


def paint(folder, *, gains=(1.0, 1.0, 1.0), offset=0.0):
    """Make the images of a folder pale, so that no tint cuts a channel off, and tint them."""
    for path in sorted(folder.rglob("*.png")):
        pale = 70 + np.asarray(Image.open(path)) * 0.35
        Image.fromarray(np.rint(pale * gains + offset).astype(np.uint8)).save(path)


@pytest.fixture
def cohort_dir(cohort_dir):
    """Three patients of different tints."""
    for folder in (cohort_dir / "data").glob("*/*"):
        *gains, offset = TINTS[folder.name]
        paint(folder, gains=tuple(gains), offset=offset)
    return cohort_dir


def images_of(folder):
    paths = sorted(folder.glob("*.png"), key=lambda path: int(path.stem.partition("_")[2]))
    return {path: np.asarray(Image.open(path)) for path in paths}


def normalise_by_hand(root, reference):
    for folder in (root / "data").glob("*/*"):
        images = images_of(folder)
        pixels = np.concatenate([image.reshape(-1, 3) for image in images.values()]).astype(float)
        mean, sd = pixels.mean(axis=0), pixels.std(axis=0)
        for path, image in images.items():
            matched = (image - mean) / sd * reference[3:] + reference[:3]
            Image.fromarray(np.clip(np.rint(matched), 0, 255).astype(np.uint8)).save(path)


def reference_of(path):
    with open_store(path) as store:
        return recorded_reference(store.manifest.preprocessing)


@pytest.mark.parametrize("views", ["flips", "shared:2"])
def test_features_are_those_of_images_normalised_by_hand_and_colours_of_the_raw_ones(
    cohort_dir, tmp_path, encoder, views
):
    stained, plain, by_hand = (tmp_path / f"{name}.zarr" for name in ("stain", "plain", "hand"))
    run(cohort_dir, stained, encoder, views=views, **STAINED)
    run(cohort_dir, plain, encoder, views=views)
    copy = shutil.copytree(cohort_dir, tmp_path / "copy")
    normalise_by_hand(copy, np.array(REFERENCE))
    run(copy, by_hand, encoder, views=views)
    with open_store(stained) as store, open_store(plain) as raw, open_store(by_hand) as hand:
        for bag_id in store.bag_ids:
            found, expected = store.read(bag_id), hand.read(bag_id)
            np.testing.assert_array_equal(found.features, expected.features)
            np.testing.assert_array_equal(found.views, expected.views)
            np.testing.assert_array_equal(found.colour, raw.read(bag_id).colour)
            np.testing.assert_allclose(pool_colours(expected.colour), REFERENCE, atol=0.1)
            assert found.fingerprint == raw.read(bag_id).fingerprint


def test_a_tint_is_taken_out_and_without_normalisation_it_is_not(cohort_dir, tmp_path, encoder):
    tinted = shutil.copytree(cohort_dir, tmp_path / "tinted")
    paint(tinted / "data/AML/CTL", gains=(1.5, 1.9, 1.7), offset=-30)

    def moved(name, **settings):
        features = []
        for root in (cohort_dir, tinted):
            path = tmp_path / f"{name}-{root.name}.zarr"
            run(root, path, encoder, views="identity", dtype="float32", **settings)
            with open_store(path) as store:
                features.append(store.read("CTL").features)
        return np.abs(features[0] - features[1]).mean() / np.abs(features[0]).mean()

    assert moved("stain", **STAINED) < 0.03 < 0.2 < moved("plain")


def test_the_reference_is_the_mean_over_the_patients_and_recorded_with_its_rule(
    cohort_dir, store_path, encoder
):
    summary = run(cohort_dir, store_path, encoder, stain="patient")
    with open_store(store_path) as store:
        recorded = store.manifest.preprocessing["stain"]
        own = [pool_colours(store.read(bag_id).colour) for bag_id in store.bag_ids]
    assert recorded["rule"] == stain.RULE
    np.testing.assert_allclose(recorded["reference"], np.mean(own, axis=0), atol=0.005)
    assert summary.stain_reference == reference_of(store_path) == tuple(recorded["reference"])


def test_of_many_patients_and_cells_some_evenly_spread_are_measured(
    cohort_dir, monkeypatch, encoder
):
    monkeypatch.setattr(stain, "MAX_PATIENTS", 2)
    monkeypatch.setattr(stain, "CELLS_EACH", 3)
    found = draw_reference(read_cohort(cohort_dir), image_size_px=SIZE_PX, workers=2)
    own = []
    for folder, numbers in (("APL/AQK", (0, 3, 6)), ("AML/BZF", (0, 1, 2))):
        images = list(images_of(cohort_dir / "data" / folder).values())
        own.append(pool_colours(np.stack([measure_colour(images[n]) for n in numbers])))
    np.testing.assert_allclose(found, np.mean(own, axis=0), atol=0.005)


def test_a_grown_cohort_keeps_the_reference_and_an_interrupted_run_its_bytes(
    cohort_dir, store_path, tmp_path, encoder
):
    undisturbed = tmp_path / f"undisturbed{store_path.suffix}"
    run(cohort_dir, undisturbed, encoder, stain="patient")
    interrupted = iter(start(cohort_dir, store_path, encoder, stain="patient"))
    next(interrupted)
    next(interrupted)
    interrupted.close()
    draw_patient(cohort_dir, "NEW", "APL", 5)
    write_table(cohort_dir, {"AQK": "APL", "BZF": "AML", "CTL": "AML", "NEW": "APL"})
    run(cohort_dir, store_path, encoder, stain="patient")
    assert reference_of(store_path) == reference_of(undisturbed)
    grown = bag_bytes(store_path)
    before = bag_bytes(undisturbed)
    assert before == {name: grown[name] for name in before}
    drawn = draw_reference(read_cohort(cohort_dir), image_size_px=SIZE_PX, workers=2)
    assert drawn != reference_of(store_path), "the new patient would have moved it"


@pytest.mark.parametrize(
    ("first", "second", "values"),
    [
        (STAINED, {"stain": "patient", "stain_reference": (99.5, *REFERENCE[1:])}, ["99.5", "120"]),
        (STAINED, {}, ["120", "stain"]),
        ({}, STAINED, ["120", "stain"]),
    ],
    ids=["another reference", "none now", "none before"],
)
def test_a_store_of_another_reference_is_refused_with_both_shown(
    cohort_dir, store_path, encoder, first, second, values
):
    run(cohort_dir, store_path, encoder, **first)
    before = bag_bytes(store_path)
    with pytest.raises(StoreMismatchError) as caught:
        run(cohort_dir, store_path, encoder, **second)
    assert all(value in str(caught.value) for value in values), str(caught.value)
    assert bag_bytes(store_path) == before


def test_several_encoders_share_the_reference_that_one_store_records(cohort_dir, tmp_path):
    def run_all(names):
        settings = {"precision": "fp32", "batch_size": 6, "workers": 2, "device": "cpu"}
        encoders = {tmp_path / f"{n}.zarr": tiny_encoder(seed) for seed, n in enumerate(names)}
        config = EmbedConfig(stain="patient", **settings)
        for _ in embed_by_several(read_cohort(cohort_dir), encoders, config):
            pass

    run(cohort_dir, tmp_path / "first.zarr", tiny_encoder(0), **STAINED)
    run_all(["first", "second"])
    assert reference_of(tmp_path / "second.zarr") == REFERENCE
    run(cohort_dir, tmp_path / "alone.zarr", tiny_encoder(1), **STAINED)
    assert bag_bytes(tmp_path / "second.zarr") == bag_bytes(tmp_path / "alone.zarr")
    run(cohort_dir, tmp_path / "other.zarr", tiny_encoder(1), stain="patient")
    with pytest.raises(EmbedError, match=r"one stain reference, got first\.zarr: 120,100.*other"):
        run_all(["first", "other"])


def test_patients_of_one_cell_and_of_one_colour_and_damaged_cells_are_no_obstacle(
    cohort_dir, tmp_path, encoder
):
    flat = np.full((SIZE_PX, SIZE_PX, 3), (200, 10, 90), dtype=np.uint8)
    for name, num in (("ONE", 1), ("TWO", 2)):
        folder = draw_patient(cohort_dir, name, "APL", num)
        if num == 2:
            for path in folder.iterdir():
                Image.fromarray(flat).save(path)
    damage(cohort_dir / "data/AML/CTL/image_0.png")
    labels = {"AQK": "APL", "BZF": "AML", "CTL": "AML", "ONE": "APL", "TWO": "APL"}
    write_table(cohort_dir, labels)
    patients = read_cohort(cohort_dir).patients
    loaded = list(
        load_normalised(
            patients, reference=REFERENCE, image_size_px=SIZE_PX, workers=2, lookahead=4
        )
    )
    by_patient = {p: [c.image for c in loaded if c.patient.patient_id == p] for p in labels}
    assert by_patient["CTL"][0] is None
    colour = pool_colours(np.stack([measure_colour(image) for image in by_patient["ONE"]]))
    np.testing.assert_allclose(colour, REFERENCE, atol=0.2)
    for image in by_patient["TWO"]:
        np.testing.assert_array_equal(image, np.broadcast_to(REFERENCE[:3], image.shape))
    summary = run(cohort_dir, tmp_path / "a.zarr", encoder, stain="patient")
    assert summary.patients_embedded == 5
    assert len(summary.quarantined) == 1


def test_a_file_that_changes_between_the_two_readings_fails_its_patient(
    cohort_dir, tmp_path, encoder, monkeypatch
):
    victim = cohort_dir / "data/AML/BZF/image_2.png"
    seen = []

    def change_once(patient, cell, **settings):
        loaded = load_cell(patient, cell, **settings)
        if cell.path == victim and not seen:
            seen.append(cell)
            (victim.parent / "image_3.png").replace(victim)
        return loaded

    monkeypatch.setattr(stain, "load_cell", change_once)
    with pytest.raises(EmbedError, match=r"BZF: cannot read image_2\.png: it changed while"):
        run(cohort_dir, tmp_path / "a.zarr", encoder, **STAINED)


def test_a_cohort_without_a_readable_image_has_no_reference(cohort_dir, tmp_path, encoder):
    for path in (cohort_dir / "data").rglob("*.png"):
        damage(path)
    with pytest.raises(EmbedError, match=r"none of the images drawn .* \(--stain-reference\)"):
        run(cohort_dir, tmp_path / "a.zarr", encoder, stain="patient")
    assert not (tmp_path / "a.zarr").exists()


def test_the_precision_check_knows_the_stain(cohort_dir, tmp_path, encoder):
    summary = run(
        cohort_dir, tmp_path / "a.zarr", encoder, check_precision=20, dtype="float32", **STAINED
    )
    assert summary.precision.min_cosine > 0.999999


def test_int8_is_calibrated_on_normalised_images(cohort_dir):
    cohort = read_cohort(cohort_dir)
    drawn = draw_calibration(cohort, image_size_px=SIZE_PX)
    found = normalise_calibration(drawn, cohort, reference=REFERENCE, workers=2)
    assert found.files == drawn.files
    normalise_by_hand(cohort_dir, np.array(REFERENCE))
    for (patient_id, name, _), image in zip(found.files, found.images, strict=True):
        (path,) = (cohort_dir / "data").glob(f"*/{patient_id}/{name}")
        np.testing.assert_array_equal(image, np.asarray(Image.open(path)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"stain_reference": REFERENCE}, "no effect without --stain patient"),
        ({"stain": "patient", "stain_reference": (1.0, 2.0)}, "six numbers.*got 1.0, 2.0"),
        ({"stain": "patient", "stain_reference": (*REFERENCE[:5], 0.0)}, "above 0"),
        ({"stain": "patient", "stain_reference": (*REFERENCE[:5], float("nan"))}, "six numbers"),
        ({"stain": "patient", "stain_reference": (256.0, *REFERENCE[1:])}, "from 0 to 255"),
        ({"stain": "cohort"}, "stain to be one of none, patient"),
    ],
)
def test_settings_without_effect_or_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        EmbedConfig(**settings)


@pytest.mark.parametrize("recorded", [7, {}, {"reference": "abcdef"}, {"reference": [1, 2]}])
def test_a_record_that_is_no_colour_is_refused(recorded):
    with pytest.raises(EmbedError, match="expected a stain's reference"):
        recorded_reference({"stain": recorded})


def test_the_command_takes_a_reference_and_prints_the_one_that_was_taken(
    cohort_dir, tmp_path, capsys
):
    aml_mil = runner(capsys)
    words = ["embed", cohort_dir, "--encoder", "test_resnet", "--weights", "random:0"]
    words += ["--image-size", 32, "--device", "cpu", "--json", "--stain", "patient"]
    text = "120.5,100,140,30,25,20"
    done = aml_mil(*words, "--stain-reference", text, "--out", tmp_path / "a.zarr")
    assert json.loads(done.out)["stain_reference"] == text, done.err
    refused = aml_mil(*words, "--stain-reference", "a,b", "--out", tmp_path / "b.zarr")
    assert refused.code == 2
    assert "numbers separated by commas" in refused.err


@pytest.mark.slow
def test_several_processes_agree_on_the_reference(cohort_dir, store_path, tmp_path, encoder):
    settings = {"stain": "patient"}
    job = {"cohort": str(cohort_dir), "store": str(store_path), "num_ranks": 2, **settings}
    assert run_in_ranks(job) == [[0, 0]]
    alone = tmp_path / f"alone{store_path.suffix}"
    run(cohort_dir, alone, encoder, **settings)
    assert bag_bytes(store_path) == bag_bytes(alone)


def test_every_level_of_a_channel_is_brought_as_the_rule_says():
    image = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, axis=-1)
    own, wanted = np.array([120.5, 100, 80, 40, 30, 20]), np.array(REFERENCE)
    expected = (image - own[:3]) * (wanted[3:] / own[3:]) + wanted[:3]
    expected = np.clip(np.rint(expected), 0, 255).astype(np.uint8)
    np.testing.assert_array_equal(match_colour(image, own, wanted), expected)
    flipped = image[::-1, :, ::-1]
    np.testing.assert_array_equal(
        match_colour(flipped, own[[2, 1, 0, 5, 4, 3]], wanted[[2, 1, 0, 5, 4, 3]]),
        expected[::-1, :, ::-1],
    )
