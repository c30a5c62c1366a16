import numpy as np
import torch

from aml_mil.mil.engine import ResidentBags
from aml_mil.mil.engine.resident import BagRows
from aml_mil.mil.sampling import EpochDraw


def _bags():
    # Feature = 1000 store + 100 view + cell
    stores = [
        np.add.outer(np.array([0.0, 100.0]), np.arange(6.0))[:, :, None] + 1000 * q
        for q in range(2)
    ]
    return ResidentBags(
        stores,
        offsets=np.array([0, 2, 6]),
        targets=np.array([1, 0]),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def test_a_drawn_cell_is_read_from_its_store_view_and_bag():
    draw = EpochDraw(
        bags=np.array([1, 0]),
        sizes=np.array([3, 2]),
        cells=np.array([0, 1, 3, 0, 1]),
        views=np.array([0, 1, 0, 1, 0]),
    )
    bags = _bags()
    rows = bags.drawn(draw, store=1)
    assert bags.table.cells[rows.rows, 0, 0].tolist() == [1002, 1103, 1005, 1100, 1001]
    assert rows.targets.tolist() == [0, 1]


def test_a_whole_bag_is_all_its_cells_in_the_identity_view():
    bags = _bags()
    rows = bags.whole(np.array([1, 0]), store=1)
    assert bags.table.cells[rows.rows, 0, 0].tolist() == [1002, 1003, 1004, 1005, 1000, 1001]
    assert rows.sizes.tolist() == [4, 2]


def test_taking_bags_takes_their_rows_and_nothing_past_the_end():
    bags = BagRows(rows=np.arange(6), sizes=np.array([1, 2, 3]), targets=np.array([0, 1, 2]))
    middle = bags.take(1, 2)
    assert (middle.rows.tolist(), middle.sizes.tolist(), middle.targets.tolist()) == (
        [1, 2],
        [2],
        [1],
    )
    assert bags.take(2, 9).rows.tolist() == [3, 4, 5]
    assert len(bags.take(3, 5).rows) == 0
