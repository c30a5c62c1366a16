import math

import pytest
import torch
from torch import Tensor

from aml_mil.ssl.dino_loss import Centre, dino_loss

SETTINGS = {"student_temperature": 0.1, "teacher_temperature": 0.04}


def draw(num_crops: int, num_images: int, num_outputs: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_crops, num_images, num_outputs)
    return list(torch.randn(shape, generator=generator, dtype=torch.float64))


def softmax_by_loops(logits: Tensor, temperature: float) -> list[float]:
    powers = [math.exp(float(z) / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def loss_by_loops(student: list[Tensor], teacher: list[Tensor], centre: Tensor) -> float:
    """Equations 1 to 4 of Caron et al. 2021, an image and a pair at a time."""
    terms = []
    for t, teacher_crop in enumerate(teacher):
        for s, student_crop in enumerate(student):
            if s == t:
                continue
            for b in range(len(student_crop)):
                target = softmax_by_loops(teacher_crop[b] - centre, 0.04)
                guess = softmax_by_loops(student_crop[b], 0.1)
                pairs = zip(target, guess, strict=True)
                terms.append(-sum(p * math.log(q) for p, q in pairs))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("num_student", "num_teacher"), [(2, 2), (6, 2), (2, 1)])
@pytest.mark.parametrize(("num_images", "num_outputs"), [(1, 2), (3, 7), (8, 4)])
def test_it_equals_the_equation(
    num_student: int, num_teacher: int, num_images: int, num_outputs: int
) -> None:
    student = draw(num_student, num_images, num_outputs)
    teacher = draw(num_teacher, num_images, num_outputs, seed=1)
    centre = draw(1, 1, num_outputs, seed=2)[0][0]
    loss = dino_loss(student, teacher, centre=centre, **SETTINGS)
    assert float(loss) == pytest.approx(loss_by_loops(student, teacher, centre), rel=1e-10)


@pytest.mark.parametrize("num_outputs", [2, 4096])
def test_a_uniform_student_costs_the_logarithm_of_the_outputs(num_outputs: int) -> None:
    flat = [torch.zeros(4, num_outputs)] * 2
    loss = dino_loss(flat, flat, centre=torch.zeros(num_outputs), **SETTINGS)
    assert float(loss) == pytest.approx(math.log(num_outputs), rel=1e-6)


def test_no_gradient_reaches_the_teacher_and_the_student_s_is_right() -> None:
    student = [crop.requires_grad_() for crop in draw(2, 3, 4)]
    teacher = [crop.requires_grad_() for crop in draw(2, 3, 4, seed=1)]
    centre = torch.zeros(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda a, b: dino_loss([a, b], teacher, centre=centre, **SETTINGS), tuple(student)
    )
    dino_loss(student, teacher, centre=centre, **SETTINGS).backward()
    assert all(crop.grad is None for crop in teacher)
    assert all(crop.grad.any() for crop in student)


def test_a_constant_on_logits_and_the_order_of_outputs_change_nothing() -> None:
    student, teacher = draw(3, 4, 5), draw(2, 4, 5, seed=1)
    centre, order = draw(1, 1, 5, seed=2)[0][0], torch.tensor([3, 1, 0, 4, 2])
    expected = dino_loss(student, teacher, centre=centre, **SETTINGS)
    shifted = dino_loss(
        [c + 5 for c in student], [c - 2 for c in teacher], centre=centre, **SETTINGS
    )
    torch.testing.assert_close(shifted, expected)
    reordered = dino_loss(
        [c[:, order] for c in student],
        [c[:, order] for c in teacher],
        centre=centre[order],
        **SETTINGS,
    )
    torch.testing.assert_close(reordered, expected)


def test_half_precision_is_safe() -> None:
    student = [(crop * 100).half() for crop in draw(2, 4, 6)]
    teacher = [(crop * 100).half() for crop in draw(2, 4, 6, seed=1)]
    centre = torch.zeros(6)
    loss = dino_loss(student, teacher, centre=centre, **SETTINGS)
    exact = dino_loss(
        [c.double() for c in student], [c.double() for c in teacher], centre=centre, **SETTINGS
    )
    assert loss.isfinite()
    assert float(loss) == pytest.approx(float(exact), rel=1e-5)


def test_a_student_without_the_teacher_s_crops_is_refused() -> None:
    with pytest.raises(ValueError, match="2 student crops"):
        dino_loss(draw(1, 2, 2), draw(1, 2, 2), centre=torch.zeros(2), **SETTINGS)


def test_the_centre_is_the_running_mean_of_the_logits() -> None:
    centre, first, second = Centre(3, momentum=0.9), draw(2, 4, 3), draw(2, 4, 3, seed=1)
    centre.update(first)
    centre.update(second)
    expected = torch.zeros(3, dtype=torch.float64)
    for crops in (first, second):
        mean = sum(row for crop in crops for row in crop) / 8
        expected = 0.9 * expected + 0.1 * mean
    torch.testing.assert_close(centre.value, expected.float())


@pytest.mark.parametrize(("momentum", "expected"), [(1.0, 0.0), (0.0, 2.0)])
def test_the_centre_stays_or_follows_at_the_ends_of_its_momentum(
    momentum: float, expected: float
) -> None:
    centre = Centre(2, momentum=momentum)
    centre.update([torch.full((3, 2), 2.0)])
    assert centre.value.tolist() == [expected] * 2
