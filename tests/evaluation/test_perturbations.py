import numpy as np
import pytest

from aml_mil.evaluation.perturbations import (
    PERTURBATIONS,
    PatientContext,
    blur,
    compress_jpeg,
    draw_direction,
    magnify,
    match_colour,
    rotate_hue,
    scale_brightness,
    scale_saturation,
    tint_background,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(60, 190, size=(48, 48, 3), dtype=np.uint8)
GREY = np.full((48, 48, 3), 120, dtype=np.uint8)
CONTEXT = PatientContext(
    direction=np.array([1, -1, 1]),
    colour=np.array([120.0, 110, 130, 30, 30, 30]),
    cohort_colour=np.array([140.0, 120, 120, 25, 35, 30]),
)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_every_perturbation_changes_an_image_and_keeps_its_size(name: str) -> None:
    before = NOISE.copy()
    changed = PERTURBATIONS[name].apply(NOISE, CONTEXT)
    assert changed.shape == NOISE.shape
    assert changed.dtype == np.uint8
    assert (changed != NOISE).any()
    np.testing.assert_array_equal(NOISE, before)


def test_a_turn_of_hue_keeps_grey_and_brightness_and_a_whole_turn_everything() -> None:
    np.testing.assert_array_equal(rotate_hue(GREY, 37), GREY)
    np.testing.assert_array_equal(rotate_hue(NOISE, 360), NOISE)
    sums = rotate_hue(NOISE, 10).sum(axis=2, dtype=int) - NOISE.sum(axis=2, dtype=int)
    assert np.abs(sums).max() <= 2
    red = np.full((1, 1, 3), (200, 50, 50), dtype=np.uint8)
    np.testing.assert_array_equal(rotate_hue(red, 120)[0, 0], (50, 200, 50))


def test_saturation_moves_colours_from_grey() -> None:
    np.testing.assert_array_equal(scale_saturation(GREY, 1.5), GREY)
    assert np.ptp(scale_saturation(NOISE, 0.0), axis=2).max() == 0


def test_brightness_multiplies() -> None:
    assert (scale_brightness(GREY, 1.1) == 132).all()


def test_a_tint_of_the_background_leaves_dark_pixels() -> None:
    image = np.full((20, 20, 3), 220, dtype=np.uint8)
    image[5:8, 5:8] = 60
    tinted = tint_background(image, np.array([1.1, 1.0, 0.9]))
    assert (tinted[0, 0] == (242, 220, 198)).all()
    assert np.abs(tinted[6, 6].astype(int) - 60).max() <= 1


def test_blur_lowers_contrast_and_keeps_the_mean() -> None:
    assert blur(NOISE, 1.0).std() < 0.6 * NOISE.std()
    assert blur(NOISE, 1.0).mean() == pytest.approx(NOISE.mean(), abs=1)


def test_jpeg_of_low_quality_loses_more() -> None:
    def loss(quality: int) -> float:
        return np.abs(compress_jpeg(NOISE, quality).astype(int) - NOISE).mean()

    assert loss(30) > loss(95) > 0


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_magnifying_changes_the_size_of_a_disc(factor: float) -> None:
    axis = np.arange(96) - 47.5
    disc = np.where((axis[:, None] ** 2 + axis**2 < 20**2)[..., None], 0, 255) + np.zeros(3)
    area = (magnify(disc.astype(np.uint8), factor)[..., 0] < 128).sum() / (disc[..., 0] < 128).sum()
    assert area == pytest.approx(factor**2, abs=0.03)


def test_colour_is_brought_to_the_mean_and_sd_wanted() -> None:
    pixels = NOISE.reshape(-1, 3).astype(float)
    own = np.concatenate([pixels.mean(axis=0), pixels.std(axis=0)])
    wanted = np.array([130.0, 120, 140, 20, 25, 30])
    found = match_colour(NOISE, own, wanted).reshape(-1, 3).astype(float)
    np.testing.assert_allclose(found.mean(axis=0), wanted[:3], atol=0.1)
    np.testing.assert_allclose(found.std(axis=0), wanted[3:], atol=0.1)


def test_directions_differ_between_patients_and_stay_with_them() -> None:
    drawn = [draw_direction(f"p{i}", "hue", seed=0) for i in range(60)]
    assert {-1, 1} == set(np.concatenate(drawn).tolist())
    assert 15 < sum(d[0] == 1 for d in drawn) < 45
    np.testing.assert_array_equal(drawn[3], draw_direction("p3", "hue", seed=0))
