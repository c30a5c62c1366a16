import pytest
import torch
from torch import nn

from aml_mil.ssl.ema import update_teacher


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    build = lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))  # noqa: E731
    return build(), build()


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.996, 1.0])
def test_every_weight_is_the_mixture_of_both(momentum: float) -> None:
    teacher, student = pair()
    old = [p.clone() for p in teacher.parameters()]
    update_teacher(teacher, student, momentum=momentum)
    for before, after, new in zip(old, teacher.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(after, momentum * before + (1 - momentum) * new)


def test_a_momentum_of_one_changes_no_bit_and_of_zero_copies() -> None:
    teacher, student = pair()
    old = [p.clone() for p in teacher.parameters()]
    update_teacher(teacher, student, momentum=1.0)
    assert all(torch.equal(a, b) for a, b in zip(old, teacher.parameters(), strict=True))
    update_teacher(teacher, student, momentum=0.0)
    for a, b in zip(teacher.parameters(), student.parameters(), strict=True):
        assert torch.equal(a, b)


def test_running_statistics_stay_the_teacher_s_own() -> None:
    teacher, student = pair()
    student[1].running_mean += 5
    update_teacher(teacher, student, momentum=0.0)
    assert not teacher[1].running_mean.any()
