import numpy as np
import torch

from aml_mil.mil.engine.packing import pack
from aml_mil.mil.engine.resident import BagRows
from aml_mil.mil.engine.segments import BagColumns, BagSoftmax

CPU = torch.device("cpu")


def _packed():
    bags = [
        BagRows(rows=np.arange(7), sizes=np.array([3, 4]), targets=np.array([0, 1])),
        BagRows(rows=np.arange(2), sizes=np.array([2]), targets=np.array([1])),
    ]
    return pack(bags, device=CPU)


def test_each_bag_sums_to_one_and_padding_has_no_weight():
    packed = _packed()
    weights = BagSoftmax(packed, torch.randn(2, 16, 3) * 1000).weights
    torch.testing.assert_close(weights[0, :3].sum(0), torch.ones(3))
    torch.testing.assert_close(weights[0, 3:].sum(0), torch.ones(3))
    torch.testing.assert_close(weights[1, :2].sum(0), torch.ones(3))
    assert (weights[1, 2:] == 0).all()


def test_the_derivative_is_autograds():
    packed = _packed()
    scores = torch.randn(2, 16, 3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(2, 16, 3, dtype=torch.float64)
    slices = [(0, slice(0, 3)), (0, slice(3, 7)), (1, slice(0, 2))]
    loss = sum((scores[r, s].softmax(0) * upstream[r, s]).sum() for r, s in slices)
    loss.backward()
    ours = BagSoftmax(packed, scores.detach()).backward(upstream)
    torch.testing.assert_close(ours, scores.grad)


def test_each_cells_values_go_to_the_columns_of_its_bag_and_come_back():
    columns = BagColumns(_packed(), num_columns=3)
    values = torch.randn(2, 16, 3)
    assert columns.shape == (2, 16, 2 * 3)
    spread = columns.spread(values, out=torch.full(columns.shape, 9.0))
    torch.testing.assert_close(columns.own(spread), values)
    assert (spread == 0).sum() == spread.numel() // 2
    torch.testing.assert_close(spread[0, 2], torch.cat([values[0, 2], torch.zeros(3)]))
    torch.testing.assert_close(spread[0, 3], torch.cat([torch.zeros(3), values[0, 3]]))
