import math

import pytest
import torch
from torch import Tensor

from aml_mil.ssl.ntxent import nt_xent_loss


def loss_by_loops(first: Tensor, second: Tensor, temperature: float) -> float:
    """Equation 1 of Chen et al., read literally; view k of image i is row 2i + k."""
    views = [v for pair in zip(first, second, strict=True) for v in pair]

    def similarity(i: int, j: int) -> float:
        a, b = views[i], views[j]
        return float(a @ b / (a.norm() * b.norm()))

    total = 0.0
    for i in range(len(views)):
        j = i + 1 if i % 2 == 0 else i - 1
        numerator = math.exp(similarity(i, j) / temperature)
        denominator = sum(
            math.exp(similarity(i, k) / temperature) for k in range(len(views)) if k != i
        )
        total += -math.log(numerator / denominator)
    return total / len(views)


def draw(num_images: int, num_dimensions: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (2, num_images, num_dimensions)
    first, second = torch.randn(shape, generator=generator, dtype=torch.float64)
    return first, second


@pytest.mark.parametrize("num_images", [2, 3, 8])
@pytest.mark.parametrize("num_dimensions", [1, 4, 9])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_it_equals_the_equation(num_images: int, num_dimensions: int, temperature: float) -> None:
    first, second = draw(num_images, num_dimensions)
    loss = nt_xent_loss(first, second, temperature=temperature)
    assert float(loss) == pytest.approx(loss_by_loops(first, second, temperature), rel=1e-12)


@pytest.mark.parametrize("num_images", [2, 5, 64])
def test_views_that_all_coincide_cost_the_logarithm_of_all_others(num_images: int) -> None:
    same = torch.ones(num_images, 3)
    loss = nt_xent_loss(same, same, temperature=0.1)
    assert float(loss) == pytest.approx(math.log(2 * num_images - 1), rel=1e-6)


def test_gradients_are_those_of_the_loss() -> None:
    first, second = (v.requires_grad_() for v in draw(3, 4))
    assert torch.autograd.gradcheck(
        lambda a, b: nt_xent_loss(a, b, temperature=0.5), (first, second)
    )


def test_lengths_order_of_images_and_of_views_and_rotations_change_nothing() -> None:
    first, second = draw(6, 4)
    expected = nt_xent_loss(first, second, temperature=0.3)
    order = torch.tensor([3, 1, 5, 0, 4, 2])
    rotation = torch.linalg.qr(draw(4, 4, seed=1)[0]).Q
    for a, b in (
        (first * 7, second * 0.1),
        (first[order], second[order]),
        (second, first),
        (first @ rotation, second @ rotation),
    ):
        torch.testing.assert_close(nt_xent_loss(a, b, temperature=0.3), expected)


def test_half_precision_neither_overflows_nor_loses_the_loss() -> None:
    first, second = (v.half() for v in draw(16, 8))
    loss = nt_xent_loss(first * 200, second * 200, temperature=0.001)
    assert loss.dtype == torch.float32
    exact = nt_xent_loss(first.double(), second.double(), temperature=0.001)
    assert float(loss) == pytest.approx(float(exact), rel=1e-3)


def test_one_image_leaves_no_negatives() -> None:
    with pytest.raises(ValueError, match="2 images or more"):
        nt_xent_loss(torch.ones(1, 2), torch.ones(1, 2), temperature=0.1)


def test_a_temperature_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        nt_xent_loss(*draw(2, 2), temperature=0.0)
