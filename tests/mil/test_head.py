import numpy as np
import pytest
import torch

from aml_mil.mil.head import Head, HeadShape, initial_head
from tests.mil.cases import NUM_FEATURES, SMALL_SHAPE


def _by_loops(head: Head, cells: torch.Tensor) -> np.ndarray:
    """The head written from the paper's description, cell by cell and class by class."""
    p = {name: value.detach().numpy() for name, value in head.named_parameters()}
    reduced, scores = [], []
    for cell in cells.numpy():
        for i in range(4):
            cell = np.maximum(p[f"reduction.{i}.weight"] @ cell + p[f"reduction.{i}.bias"], 0)
        reduced.append(cell)
        hidden = np.tanh(p["attention_hidden.weight"] @ cell + p["attention_hidden.bias"])
        scores.append(p["attention_score.weight"] @ hidden + p["attention_score.bias"])
    logits = []
    for c in range(head.shape.num_classes):
        weights = np.exp([s[c] for s in scores])
        bag = sum(w * h for w, h in zip(weights / weights.sum(), reduced, strict=True))
        hidden = p["classifier_hidden.weight"][c] @ bag + p["classifier_hidden.bias"][c]
        logit = p["classifier_logit.weight"][c] @ np.maximum(hidden, 0)
        logits.append((logit + p["classifier_logit.bias"][c]).item())
    return np.array(logits)


def _cells(count=9):
    return torch.randn(count, NUM_FEATURES, generator=torch.Generator().manual_seed(0)).double()


def test_logits_are_those_of_the_papers_equations():
    head = initial_head(SMALL_SHAPE, seed=0).double()
    np.testing.assert_allclose(
        head(_cells()).logits.detach(), _by_loops(head, _cells()), rtol=1e-12
    )


def test_order_of_cells_changes_nothing():
    head = initial_head(SMALL_SHAPE, seed=0).double()
    cells = _cells()
    torch.testing.assert_close(head(cells).logits, head(cells.flip(0)).logits)


def test_each_cell_twice_changes_nothing():
    head = initial_head(SMALL_SHAPE, seed=0).double()
    cells = _cells()
    torch.testing.assert_close(head(cells).logits, head(torch.cat([cells, cells])).logits)


def test_the_default_head_has_the_recipes_sizes():
    head = Head(HeadShape(feature_shape=(512,), num_classes=5))
    sizes = {name: tuple(p.shape) for name, p in head.named_parameters() if "weight" in name}
    assert sizes == {
        "reduction.0.weight": (300, 512),
        "reduction.1.weight": (200, 300),
        "reduction.2.weight": (150, 200),
        "reduction.3.weight": (100, 150),
        "attention_hidden.weight": (128, 100),
        "attention_score.weight": (5, 128),
        "classifier_hidden.weight": (5, 64, 100),
        "classifier_logit.weight": (5, 1, 64),
    }


def test_initial_weights_are_uniform_within_one_over_root_fan_in_and_repeatable():
    shape = HeadShape(feature_shape=(512,), num_classes=2)
    first, again, other = (initial_head(shape, seed=s).state_dict() for s in (3, 3, 4))
    for name, values in first.items():
        layer = name.rpartition(".")[0]
        bound = first[f"{layer}.weight"].shape[-1] ** -0.5
        assert values.abs().max() <= bound
        assert torch.equal(values, again[name])
        assert not torch.equal(values, other[name])
    assert first["reduction.0.weight"].std() == pytest.approx((3 * 512) ** -0.5, rel=0.01)


@pytest.mark.parametrize(
    ("feature_shape", "message"),
    [
        ((512, 5), r"expected vectors \(D,\) or maps \(D, H, W\), got \(512, 5\)"),
        ((512, 5, 4), r"expected maps of 5x5 or more for 4 convolutions of 2x2, got \(512, 5, 4\)"),
    ],
)
def test_features_that_no_head_fits_are_refused(feature_shape, message):
    with pytest.raises(ValueError, match=message):
        HeadShape(feature_shape=feature_shape, num_classes=2)


def test_a_map_of_five_by_five_is_reduced_by_its_convolutions_to_one_position():
    shape = HeadShape(feature_shape=(3, 5, 5), num_classes=2, widths=(8, 7, 6, 4))
    head = initial_head(shape, seed=0)
    cells = torch.randn(6, 3, 5, 5)
    expected = cells
    for layer in head.reduction:
        expected = torch.relu(torch.nn.functional.conv2d(expected, layer.weight, layer.bias))
    torch.testing.assert_close(head.reduce(cells), expected[:, :, 0, 0])
    assert head.reduction[0].weight.abs().max() <= (3 * 4) ** -0.5


def test_remaining_positions_of_a_larger_map_are_averaged():
    shape = HeadShape(feature_shape=(3, 4, 3), num_classes=2, widths=(4,))
    head = initial_head(shape, seed=0)
    cells = torch.randn(6, 3, 4, 3)
    positions = torch.relu(head.reduction[0](cells))
    assert positions.shape == (6, 4, 3, 2)
    torch.testing.assert_close(head.reduce(cells), positions.mean(dim=(2, 3)))
