"""One cell file."""

import hashlib
import math

import numpy as np
import pytest

from aml_mil.cohort import Cell, Patient, measure_colour
from aml_mil.embedding.cells import hash_cell, load_cell
from tests.embedding.drawing import damage, draw_cell

PATIENT = Patient(patient_id="AQK", label="APL", cells=())


def cell_at(path):
    return Cell(instance_id=path.name, path=path)


@pytest.mark.parametrize("seed", range(3))
def test_colour_is_mean_and_deviation_of_each_channel(seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (17, 23, 3), dtype=np.uint8) // np.array([1, 2, 5], dtype=np.uint8)
    pixels = image.reshape(-1, 3).astype(np.float64)
    expected = np.concatenate([pixels.mean(0), pixels.std(0)]).astype(np.float32)
    np.testing.assert_allclose(measure_colour(image), expected, rtol=1e-6)


@pytest.mark.parametrize("side_px", [1, 2, 144, 1024])
def test_colour_is_exact_before_it_is_rounded(side_px):
    rng = np.random.default_rng(side_px)
    image = rng.integers(200, 256, (side_px, side_px, 3), dtype=np.uint8)
    levels = image.reshape(-1, 3).astype(np.int64)
    num, totals, squares = len(levels), levels.sum(0), (levels**2).sum(0)
    deviations = np.sqrt(num * squares - totals * totals) / num
    expected = np.concatenate([totals / num, deviations]).astype(np.float32)
    np.testing.assert_array_equal(measure_colour(image), expected)


def test_one_colour_everywhere_has_no_deviation():
    image = np.full((144, 144, 3), (200, 0, 255), dtype=np.uint8)
    np.testing.assert_array_equal(measure_colour(image), [200, 0, 255, 0, 0, 0])


def test_the_colour_of_the_largest_picture_is_exact():
    image = np.full((1024, 4096, 3), 255, dtype=np.uint8)
    image[0, 0] = 254
    num = 1024 * 4096
    total, squares = 255 * num - 1, 255**2 * num - 255**2 + 254**2
    deviation = math.sqrt(num * squares - total**2) / num
    expected = np.float32([total / num] * 3 + [deviation] * 3)
    np.testing.assert_array_equal(measure_colour(image), expected)


def test_a_loaded_cell_is_fitted_and_its_colour_is_that_of_the_fitted_image(tmp_path):
    draw_cell(tmp_path / "a.png", size_px=40)
    loaded = load_cell(PATIENT, cell_at(tmp_path / "a.png"), image_size_px=32)
    assert loaded.image.shape == (32, 32, 3)
    np.testing.assert_array_equal(loaded.colour, measure_colour(loaded.image))


def test_a_damaged_file_is_told_with_its_hash(tmp_path):
    draw_cell(tmp_path / "a.png")
    damage(tmp_path / "a.png")
    loaded = load_cell(PATIENT, cell_at(tmp_path / "a.png"), image_size_px=32)
    assert loaded.image is None
    assert loaded.damage
    assert loaded.sha256 == hashlib.sha256((tmp_path / "a.png").read_bytes()).hexdigest()
    assert hash_cell(PATIENT, cell_at(tmp_path / "a.png")).sha256 == loaded.sha256


@pytest.mark.parametrize(
    "load", [hash_cell, lambda p, c: load_cell(p, c, image_size_px=32)], ids=["hash", "load"]
)
def test_a_file_that_cannot_be_read_is_told_apart_from_a_damaged_one(tmp_path, load):
    loaded = load(PATIENT, cell_at(tmp_path / "gone.png"))
    assert loaded.io_error == "No such file or directory"
    assert not loaded.damage
