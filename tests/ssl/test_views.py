import os
import subprocess
import sys

import numpy as np
import pytest

from aml_mil.ssl.views import CropRecipe, Views, supervised_pipeline

FLIPS_ONLY = CropRecipe(size_px=16, min_scale=1.0, max_scale=1.0, jitter_p=0.0, grey=0.0, blur=0.0)


def image(side_px: int = 40) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8)


def views(seed: int = 0) -> Views:
    recipe = CropRecipe(size_px=24, min_scale=0.2, max_scale=1.0, rotate=0.5, solarise=0.2)
    return Views([recipe.build(), recipe.build()], seed=seed)


def test_a_view_depends_on_seed_epoch_and_cell_and_on_nothing_drawn_before() -> None:
    first, second = views(), views()
    for cell in range(5):
        second(image(), epoch=9, cell=cell)
    for a, b in zip(first(image(), epoch=1, cell=3), second(image(), epoch=1, cell=3), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("change", [{"epoch": 2}, {"cell": 4}])
def test_other_epochs_cells_and_seeds_see_other_views(change: dict[str, int]) -> None:
    where = {"epoch": 1, "cell": 3}
    (expected, _), (other, _) = views()(image(), **where), views()(image(), **(where | change))
    assert (expected != other).any()
    assert (views(seed=1)(image(), **where)[0] != expected).any()


def test_the_two_views_of_a_cell_differ() -> None:
    first, second = views()(image(), epoch=0, cell=0)
    assert (first != second).any()


def test_horizontal_and_vertical_flips_are_drawn_apart() -> None:
    corner = np.zeros((16, 16, 3), dtype=np.uint8)
    corner[0, 0] = 255
    draw = Views([FLIPS_ONLY.build()], seed=0)
    found = [
        tuple(int(i) for i in np.argwhere(draw(corner, epoch=0, cell=cell)[0][..., 0])[0])
        for cell in range(200)
    ]
    counts = {place: found.count(place) for place in ((0, 0), (0, 15), (15, 0), (15, 15))}
    assert sum(counts.values()) == 200
    assert min(counts.values()) > 25


def test_grey_views_are_as_frequent_as_the_recipe_says() -> None:
    recipe = CropRecipe(size_px=8, min_scale=1.0, max_scale=1.0, jitter_p=0.0, grey=0.2, blur=0.0)
    draw = Views([recipe.build()], seed=0)
    drawn = [draw(image(8), epoch=0, cell=cell)[0] for cell in range(400)]
    grey = np.mean(
        [(v[..., 0] == v[..., 1]).all() and (v[..., 1] == v[..., 2]).all() for v in drawn]
    )
    assert 0.13 < grey < 0.27


def test_crops_have_the_size_asked_for_and_show_a_part_of_the_image() -> None:
    recipe = CropRecipe(
        size_px=12, min_scale=0.05, max_scale=0.14, jitter_p=0.0, grey=0.0, blur=0.0
    )
    ramp = np.repeat(np.arange(120, dtype=np.uint8)[None, :, None], 120, 0).repeat(3, 2)
    for cell in range(50):
        (crop,) = Views([recipe.build()], seed=0)(ramp, epoch=0, cell=cell)
        assert crop.shape == (12, 12, 3)
        assert np.ptp(crop[..., 0].astype(int)) <= 120 * 0.14**0.5 * (4 / 3) ** 0.5 + 1


def test_solarised_pixels_are_inverted() -> None:
    recipe = CropRecipe(
        size_px=16, min_scale=1.0, max_scale=1.0, jitter_p=0.0, grey=0.0, blur=0.0, solarise=1.0
    )
    bright = np.full((16, 16, 3), 200, dtype=np.uint8)
    (view,) = Views([recipe.build()], seed=0)(bright, epoch=0, cell=0)
    assert (view == 55).all()


def test_the_supervised_picture_keeps_the_size_asked_for() -> None:
    (view,) = Views([supervised_pipeline(20)], seed=0)(image(), epoch=0, cell=0)
    assert view.shape == (20, 20, 3)
    assert view.dtype == np.uint8


def test_the_supervised_picture_changes_colour_only_when_asked() -> None:
    flat = np.full((20, 20, 3), (180, 120, 90), dtype=np.uint8)

    def colours(jitter: float) -> set[tuple[int, ...]]:
        views = Views([supervised_pipeline(20, jitter=jitter)], seed=0)
        pictures = [views(flat, epoch=0, cell=cell)[0] for cell in range(8)]
        return {tuple(pixel) for p in pictures for pixel in p.reshape(-1, 3).tolist() if any(pixel)}

    assert colours(0.0) == {(180, 120, 90)}
    assert len(colours(0.4)) > 3


@pytest.mark.slow
def test_the_import_opens_no_connection() -> None:
    script = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "import urllib.request\n"
        "urllib.request.urlopen = refuse\n"
        "import aml_mil.ssl.views\n"
        "import os\n"
        "assert os.environ['NO_ALBUMENTATIONS_UPDATE'] == '1'\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment, timeout=60)
