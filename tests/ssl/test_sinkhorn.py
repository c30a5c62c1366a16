import pytest
import torch
from torch import Tensor

from aml_mil.ssl.sinkhorn import sinkhorn


def assign_by_loops(scores: Tensor, epsilon: float, num_iterations: int) -> Tensor:
    """Listing in the appendix of Caron et al. 2020."""
    num_images, num_prototypes = scores.shape
    q = (scores / epsilon).exp().T  # [P, B]
    q = q / q.sum()
    for _ in range(num_iterations):
        for p in range(num_prototypes):
            q[p] = q[p] / q[p].sum() / num_prototypes
        for b in range(num_images):
            q[:, b] = q[:, b] / q[:, b].sum() / num_images
    return (q * num_images).T


def cosines(num_images: int, num_prototypes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_images, num_prototypes, generator=generator, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("num_images", [1, 4, 33])
@pytest.mark.parametrize("num_prototypes", [2, 7, 50])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
@pytest.mark.parametrize("num_iterations", [1, 3])
def test_it_equals_the_listing(
    num_images: int, num_prototypes: int, epsilon: float, num_iterations: int
) -> None:
    scores = cosines(num_images, num_prototypes)
    assigned = sinkhorn(scores, epsilon=epsilon, num_iterations=num_iterations)
    torch.testing.assert_close(assigned, assign_by_loops(scores, epsilon, num_iterations))


def test_images_sum_to_one_after_any_number_of_iterations() -> None:
    assigned = sinkhorn(cosines(20, 6), epsilon=0.05, num_iterations=1)
    torch.testing.assert_close(assigned.sum(1), torch.ones(20, dtype=torch.float64))


def test_prototypes_share_the_images_evenly_after_many_iterations() -> None:
    assigned = sinkhorn(cosines(60, 6), epsilon=0.3, num_iterations=200)
    torch.testing.assert_close(assigned.sum(0), torch.full((6,), 10.0, dtype=torch.float64))


def test_equal_scores_are_shared_evenly() -> None:
    assigned = sinkhorn(torch.full((8, 5), 0.7), epsilon=0.05, num_iterations=3)
    torch.testing.assert_close(assigned, torch.full((8, 5), 0.2))


def test_a_constant_on_all_scores_and_the_order_of_prototypes_change_nothing() -> None:
    scores, order = cosines(9, 5), torch.tensor([4, 2, 0, 1, 3])
    expected = sinkhorn(scores, epsilon=0.05, num_iterations=3)
    torch.testing.assert_close(sinkhorn(scores + 3, epsilon=0.05, num_iterations=3), expected)
    reordered = sinkhorn(scores[:, order], epsilon=0.05, num_iterations=3)
    torch.testing.assert_close(reordered, expected[:, order])


def test_half_precision_does_not_overflow() -> None:
    scores = (cosines(16, 8) * 20).half()  # exp(20 / 0.05) has no place in any format
    assigned = sinkhorn(scores, epsilon=0.05, num_iterations=3)
    assert assigned.isfinite().all()
    exact = sinkhorn(scores.double(), epsilon=0.05, num_iterations=3)
    torch.testing.assert_close(assigned, exact.float(), atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("epsilon", "num_iterations"), [(0.0, 3), (0.05, 0)])
def test_settings_without_sense_are_refused(epsilon: float, num_iterations: int) -> None:
    with pytest.raises(ValueError, match="expected"):
        sinkhorn(cosines(3, 3), epsilon=epsilon, num_iterations=num_iterations)
