"""Encoders of patients: what order cannot change, and what places can."""

import pytest
import torch
from torch.nn.functional import conv2d

from aml_mil.giga.bags import CellSets
from aml_mil.giga.network import EncoderShape, PatientEncoder, build_encoder
from aml_mil.giga.sparse_conv import Sites, SparseConv, downsample, mean_by, place_on_grid

B, K, D, SIDE = 3, 10, 4, 9


def sets(seed=0, cells=K):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(B, cells, D, generator=generator, dtype=torch.float64)
    places = 5 * torch.rand(B, cells, 2, generator=generator, dtype=torch.float64)
    return CellSets(features, places)


def encoder(kind="set", pooling="mean"):
    shape = EncoderShape(
        kind=kind,
        num_features=D,
        width=12,
        pooling=pooling,
        grid_step=1.0 if kind == "sparse" else None,
        cells=K,
    )
    return build_encoder(shape, seed=0).double().eval()


def sites(num_sets=2, seed=0):
    """About a third of the squares, those of one set at a border of the grid."""
    generator = torch.Generator().manual_seed(seed)
    taken = torch.rand(num_sets, SIDE, SIDE, generator=generator) < 0.3
    squares = taken.nonzero()
    features = torch.randn(len(squares), D, generator=generator, dtype=torch.float64)
    return Sites(squares, features.requires_grad_())


def dense_conv(inputs, conv):
    """The same by a dense convolution; squares that are to be empty are masked."""
    owner, row, column = inputs.squares.T
    grid = torch.zeros(int(owner.max()) + 1, SIDE, SIDE, D, dtype=torch.float64)
    grid = grid.index_put((owner, row, column), inputs.features)
    kernel = conv.weight.view(-1, 3, 3, D).permute(0, 3, 1, 2)
    out = conv2d(grid.permute(0, 3, 1, 2), kernel, padding=1, stride=conv.stride)
    return out.permute(0, 2, 3, 1)


@pytest.mark.parametrize("stride", [1, 2])
def test_sparse_convolution_equals_a_dense_masked_one_and_so_do_its_gradients(stride):
    inputs = sites()
    conv = SparseConv(D, 5, stride=stride).double()
    squares, found = conv(inputs)
    expected = dense_conv(inputs, conv)
    mask = torch.zeros(expected.shape[:3], dtype=torch.bool)
    occupied = {(a, b // stride, c // stride) for a, b, c in inputs.squares.tolist()}
    mask[tuple(zip(*sorted(occupied), strict=True))] = True
    assert torch.equal(squares, mask.nonzero())
    torch.testing.assert_close(found, expected[mask])
    weights = torch.randn(found.shape, dtype=torch.float64)
    ours = torch.autograd.grad((found * weights).sum(), [inputs.features, conv.weight])
    theirs = torch.autograd.grad((expected[mask] * weights).sum(), [inputs.features, conv.weight])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_cells_of_one_square_are_averaged_and_sets_do_not_mix():
    features = torch.tensor([[[1.0], [3.0], [7.0]], [[10.0], [20.0], [40.0]]])
    places = torch.tensor([[[0.1, 0.2], [0.9, 0.9], [2.5, 0.0]]] * 2) - 5
    squares, found = place_on_grid(features, places, step=1.0)
    assert squares.tolist() == [[0, 0, 0], [0, 2, 0], [1, 0, 0], [1, 2, 0]]
    assert found.flatten().tolist() == [2.0, 7.0, 15.0, 40.0]


def test_sets_are_convolved_apart():
    together = sites(num_sets=2)
    conv = SparseConv(D, 5).double()
    alone = together.squares[:, 0] == 1
    own = Sites(
        torch.cat([torch.zeros(int(alone.sum()), 1).long(), together.squares[alone, 1:]], 1),
        together.features[alone],
    )
    torch.testing.assert_close(conv(together).features[alone], conv(own).features)


def test_a_coarser_grid_says_where_each_square_went():
    squares = torch.tensor([[0, 0, 0], [0, 1, 1], [0, 2, 0], [1, 0, 0]])
    left, parents = downsample(squares)
    assert left.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]
    assert parents.tolist() == [0, 0, 1, 2]
    values = torch.tensor([[1.0], [3.0], [5.0], [7.0]])
    assert mean_by(values, parents, num_groups=3).flatten().tolist() == [2.0, 5.0, 7.0]


def test_a_shortcut_takes_features_past_the_convolutions_and_averages_what_falls_together():
    block = encoder("sparse").network.blocks[0]
    with torch.no_grad():
        for conv in (block.first, block.second):
            conv.weight.zero_()
    inputs = sites()
    squares, parents = downsample(inputs.squares)
    means = mean_by(inputs.features, parents, num_groups=len(squares))
    found = block(inputs)
    assert torch.equal(found.squares, squares)
    torch.testing.assert_close(found.features, block.shortcut(means).relu())


@pytest.mark.parametrize(
    ("kind", "pooling"), [("set", "mean"), ("set", "attention"), ("sparse", "mean")]
)
def test_the_order_of_cells_changes_nothing(kind, pooling):
    network, given = encoder(kind, pooling), sets()
    order = torch.randperm(K, generator=torch.Generator().manual_seed(1))
    found = network(given)
    torch.testing.assert_close(network(CellSets(*(part[:, order] for part in given))), found)
    assert not torch.allclose(network(sets(seed=1)), found)


@pytest.mark.parametrize("kind", ["set", "sparse"])
def test_a_patient_is_encoded_whoever_is_beside_it(kind):
    network, given = encoder(kind), sets()
    torch.testing.assert_close(
        network(CellSets(*(part[1:2] for part in given))), network(given)[1:2]
    )


def test_places_matter_to_the_sparse_encoder_alone():
    given = sets()
    moved = CellSets(given.features, given.places.flip(1))
    assert torch.equal(encoder("set")(given), encoder("set")(moved))
    assert not torch.allclose(encoder("sparse")(given), encoder("sparse")(moved))


def test_where_a_patient_lies_on_the_slide_does_not_matter():
    given = sets()
    moved = CellSets(given.features, given.places + 300)
    torch.testing.assert_close(encoder("sparse")(moved), encoder("sparse")(given))


def test_features_are_scaled_and_one_that_never_changes_stays_finite():
    network = encoder()
    given = sets()
    expected = network(given)
    mean, sd = torch.tensor([1.0, -2.0, 5.0, 0.0]), torch.tensor([2.0, 0.5, 0.0, 3.0])
    network.set_scale(mean, sd)
    back = given.features * torch.tensor([2.0, 0.5, 1.0, 3.0]) + mean
    torch.testing.assert_close(network(CellSets(back, None)), expected)


def test_a_seed_gives_the_same_weights_and_leaves_the_callers_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first, second = encoder(), encoder()
    assert torch.equal(torch.rand(2), expected)
    assert isinstance(first, PatientEncoder)
    assert all(
        torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )
