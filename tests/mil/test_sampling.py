import numpy as np
import pytest

from aml_mil.mil.sampling import draw_epoch, weight_seed

SIZES = np.array([5, 30, 12, 8, 9, 40, 3, 7])
TARGETS = np.array([0, 0, 0, 0, 0, 0, 0, 1])
TRAIN = np.arange(8)


def _draw(**values):
    settings = {
        "train": TRAIN,
        "targets": TARGETS,
        "bag_sizes": SIZES,
        "num_views": 4,
        "max_cells": 10,
        "seed": 0,
        "fold": 0,
        "epoch": 0,
    }
    return draw_epoch(**settings | values)


def _per_bag(draw):
    return list(zip(draw.bags, np.split(draw.cells, np.cumsum(draw.sizes)[:-1]), strict=True))


def test_an_epoch_has_as_many_draws_as_training_bags():
    draw = _draw(train=TRAIN[3:])
    assert len(draw.bags) == 5
    assert set(draw.bags) <= set(TRAIN[3:])
    assert len(draw.cells) == len(draw.views) == draw.sizes.sum()


def test_classes_are_balanced_in_expectation():
    drawn = np.concatenate([_draw(epoch=e).bags for e in range(400)])
    rare = (drawn == 7).mean()
    assert rare == pytest.approx(0.5, abs=0.03)
    others = np.bincount(drawn, minlength=8)[:7] / len(drawn)
    assert others == pytest.approx(np.full(7, 0.5 / 7), abs=0.02)


def test_bags_are_drawn_with_replacement():
    assert any(len(set(_draw(epoch=e, targets=np.arange(8)).bags)) < 8 for e in range(5))


def test_where_a_view_is_the_whole_patients_the_cells_of_a_bag_come_from_one():
    views = []
    for epoch in range(400):
        draw = _draw(epoch=epoch, one_view_a_bag=True)
        of_bags = np.split(draw.views, np.cumsum(draw.sizes)[:-1])
        assert all(len(set(of_bag)) == 1 for of_bag in of_bags)
        views += [of_bag[0] for of_bag in of_bags]
    assert np.bincount(views) / len(views) == pytest.approx(np.full(4, 0.25), abs=0.03)


def test_no_bag_gives_more_than_the_cap_and_each_cell_once():
    for epoch in range(20):
        for bag, cells in _per_bag(_draw(epoch=epoch)):
            assert len(cells) == min(SIZES[bag], 10)
            assert len(set(cells)) == len(cells)
            assert cells.max() < SIZES[bag]


def test_cells_are_redrawn_each_time():
    subsets = {
        tuple(cells) for e in range(10) for bag, cells in _per_bag(_draw(epoch=e)) if bag == 5
    }
    assert len(subsets) > 1


def test_every_cell_of_a_long_bag_is_drawn_equally_often():
    cells = np.concatenate(
        [c for e in range(600) for bag, c in _per_bag(_draw(epoch=e)) if bag == 5]
    )
    frequency = np.bincount(cells, minlength=40) / len(cells)
    assert frequency == pytest.approx(np.full(40, 1 / 40), abs=0.01)


def test_views_are_equally_likely():
    views = np.concatenate([_draw(epoch=e).views for e in range(100)])
    assert np.bincount(views, minlength=4) / len(views) == pytest.approx(np.full(4, 0.25), abs=0.03)


def test_a_store_of_one_view_is_read_from_it():
    assert (_draw(num_views=1).views == 0).all()


@pytest.mark.parametrize("changed", [{"seed": 1}, {"fold": 1}, {"epoch": 1}])
def test_draws_depend_on_seed_fold_and_epoch_alone(changed):
    again, other = _draw(), _draw(**changed)
    assert np.array_equal(_draw().cells, again.cells)
    assert np.array_equal(_draw().bags, again.bags)
    assert not np.array_equal(_draw().bags, other.bags)


def test_labels_of_other_patients_do_not_change_a_draw():
    targets = TARGETS.copy()
    targets[:2] = 1
    first, second = _draw(train=TRAIN[2:]), _draw(train=TRAIN[2:], targets=targets)
    assert np.array_equal(first.bags, second.bags)
    assert np.array_equal(first.cells, second.cells)


def test_weight_seeds_differ_between_replicates():
    seeds = {weight_seed(seed=s, fold=k) for s in range(10) for k in range(10)}
    assert len(seeds) == 100
