import math

import pytest
import torch
from torch import Tensor

from aml_mil.ssl.sinkhorn import sinkhorn
from aml_mil.ssl.swav_loss import swav_loss

SETTINGS = {"temperature": 0.1, "epsilon": 0.05, "num_iterations": 3}


def draw(num_crops: int, num_images: int, num_prototypes: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_crops, num_images, num_prototypes)
    return list(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1)


def loss_by_loops(crops: list[Tensor], num_global: int, queue: list[Tensor] | None = None) -> float:
    """Equations 2 and 6 of Caron et al. 2020, summed one image and one prototype at a time."""
    total, pairs = 0.0, 0
    num_images, num_prototypes = crops[0].shape
    for g in range(num_global):
        known = crops[g] if queue is None else torch.cat([queue[g], crops[g]])
        q = sinkhorn(known, epsilon=0.05, num_iterations=3)[-num_images:]
        for v in range(len(crops)):
            if v == g:
                continue
            pairs += 1
            for b in range(num_images):
                norm = sum(math.exp(float(crops[v][b, k]) / 0.1) for k in range(num_prototypes))
                for k in range(num_prototypes):
                    p = math.exp(float(crops[v][b, k]) / 0.1) / norm
                    total -= float(q[b, k]) * math.log(p) / num_images
    return total / pairs


@pytest.mark.parametrize(("num_crops", "num_global"), [(2, 2), (2, 1), (5, 2)])
@pytest.mark.parametrize(("num_images", "num_prototypes"), [(1, 2), (6, 4), (5, 11)])
def test_it_equals_the_equation(
    num_crops: int, num_global: int, num_images: int, num_prototypes: int
) -> None:
    crops = draw(num_crops, num_images, num_prototypes)
    loss = swav_loss(crops, num_global=num_global, **SETTINGS)
    assert float(loss) == pytest.approx(loss_by_loops(crops, num_global), rel=1e-10)


def test_the_queue_takes_part_in_balancing_only() -> None:
    crops, queue = draw(3, 4, 5), draw(2, 9, 5, seed=1)
    loss = swav_loss(crops, num_global=2, queue_scores=queue, **SETTINGS)
    assert float(loss) == pytest.approx(loss_by_loops(crops, 2, queue), rel=1e-10)
    assert float(loss) != pytest.approx(float(swav_loss(crops, num_global=2, **SETTINGS)), rel=1e-4)


@pytest.mark.parametrize("num_prototypes", [2, 300])
def test_equal_scores_cost_the_logarithm_of_the_prototypes(num_prototypes: int) -> None:
    crops = [torch.full((8, num_prototypes), 0.3)] * 4
    loss = swav_loss(crops, num_global=2, **SETTINGS)
    assert float(loss) == pytest.approx(math.log(num_prototypes), rel=1e-6)


def test_gradients_flow_through_the_prediction_only() -> None:
    crops = [crop.requires_grad_() for crop in draw(2, 4, 3)]
    loss = swav_loss(crops, num_global=1, **SETTINGS)
    assigned, predicted = torch.autograd.grad(loss, crops, allow_unused=True)
    assert assigned is None or not assigned.any()
    assert predicted.any()
    fixed = crops[0].detach()
    assert torch.autograd.gradcheck(
        lambda scores: swav_loss([fixed, scores], num_global=1, **SETTINGS), (crops[1],)
    )


def test_the_order_of_images_and_prototypes_changes_nothing() -> None:
    crops = draw(3, 6, 4)
    expected = swav_loss(crops, num_global=2, **SETTINGS)
    images, prototypes = torch.tensor([5, 0, 3, 1, 4, 2]), torch.tensor([2, 0, 3, 1])
    reordered = [crop[images][:, prototypes] for crop in crops]
    torch.testing.assert_close(swav_loss(reordered, num_global=2, **SETTINGS), expected)


def test_half_precision_is_safe() -> None:
    crops = [crop.half() for crop in draw(4, 8, 16)]
    loss = swav_loss(crops, num_global=2, **SETTINGS)
    exact = swav_loss([crop.double() for crop in crops], num_global=2, **SETTINGS)
    assert loss.dtype == torch.float32
    assert float(loss) == pytest.approx(float(exact), rel=1e-4)


def test_a_single_crop_is_refused() -> None:
    with pytest.raises(ValueError, match="2 crops"):
        swav_loss(draw(1, 2, 2), num_global=1, **SETTINGS)
