from collections import Counter

import numpy as np
import pytest
import torch

from aml_mil.ssl.batches import (
    BatchPlan,
    ViewDataset,
    balanced_order,
    count_earlier,
    shuffled_order,
    view_loader,
)
from aml_mil.ssl.pool import ImagePool
from aml_mil.ssl.views import CropRecipe, Views


def test_an_epoch_shows_every_image_once_in_an_order_of_its_own() -> None:
    orders = [shuffled_order(50, seed=0, epoch=epoch) for epoch in (0, 1)]
    for order in orders:
        assert sorted(order) == list(range(50))
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[0], shuffled_order(50, seed=0, epoch=0))


def test_rare_types_are_drawn_as_often_as_common_ones() -> None:
    types = ["common"] * 900 + ["rare"] * 30 + ["odd"] * 70
    drawn = Counter(types[i] for i in balanced_order(types, seed=0, epoch=0))
    assert sum(drawn.values()) == 1000
    assert all(270 < drawn[name] < 400 for name in ("common", "rare", "odd"))


@pytest.mark.parametrize("first_step", [0, 1, 3, 5, 11])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_a_resumed_plan_goes_on_where_the_whole_one_was(
    pool: ImagePool, first_step: int, is_balanced: bool
) -> None:
    settings = {"batch_size": 7, "epochs": 4, "seed": 3, "is_balanced": is_balanced}
    whole = list(BatchPlan(pool, **settings))
    rest = BatchPlan(pool, **settings, first_step=first_step)
    assert list(rest) == whole[first_step:]
    assert len(rest) == len(whole) - first_step == 12 - first_step


def test_every_batch_is_full_and_belongs_to_one_epoch(pool: ImagePool) -> None:
    for number, batch in enumerate(BatchPlan(pool, batch_size=7, epochs=2, seed=0)):
        assert len(batch) == 7
        assert {epoch for epoch, *_ in batch} == {number // 3}


def test_draws_of_the_same_image_in_an_epoch_are_counted() -> None:
    order = np.array([4, 2, 4, 4, 0, 2])
    np.testing.assert_array_equal(count_earlier(order), [0, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(count_earlier(np.array([2, 0, 1])), [0, 0, 0])


def test_an_image_drawn_again_in_an_epoch_is_seen_anew(pool: ImagePool) -> None:
    views = Views([CropRecipe(size_px=16, min_scale=0.2, max_scale=1.0).build()], seed=0)
    dataset = ViewDataset(pool, views, [0] * len(pool))
    plan = BatchPlan(pool, batch_size=len(pool), epochs=1, seed=0, is_balanced=True)
    [draws] = list(plan)
    again = [draw for draw in draws if draw[2] > 0]
    assert again
    for epoch, image, earlier in again:
        first, second = (dataset[epoch, image, n][0][0] for n in (0, earlier))
        assert not torch.equal(first, second)


@pytest.mark.parametrize("num_workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_balanced", [False, True])
def test_batches_hold_the_views_of_their_draws_whoever_makes_them(
    pool: ImagePool, num_workers: int, is_balanced: bool
) -> None:
    views = Views([CropRecipe(size_px=16, min_scale=0.2, max_scale=1.0).build()] * 2, seed=0)
    plan = BatchPlan(pool, batch_size=6, epochs=1, seed=0, is_balanced=is_balanced)
    targets = list(range(100, 124))
    loader = view_loader(ViewDataset(pool, views, targets), plan, num_workers=num_workers)
    for (crops, numbers), batch in zip(loader, plan, strict=True):
        for row, (epoch, image, earlier) in enumerate(batch):
            expected = views(pool.image(image), epoch=epoch, cell=image, earlier=earlier)
            assert int(numbers[row]) == 100 + image
            for crop, wanted in zip(crops, expected, strict=True):
                assert torch.equal(crop[row], torch.from_numpy(wanted))
