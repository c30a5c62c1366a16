"""A teacher that follows its student slowly."""

import torch
from torch import nn


@torch.no_grad()
def update_teacher(teacher: nn.Module, student: nn.Module, *, momentum: float) -> None:
    """Move every weight of the teacher towards the student's; running statistics are its own.

    Args:
        teacher: Of the same architecture as the student.
        student: What is trained.
        momentum: Share of the teacher kept: 1 leaves it as it is, 0 copies the student.

    Source:
        Caron et al. 2021, section 3.1, https://arxiv.org/abs/2104.14294
    """
    torch._foreach_lerp_(tuple(teacher.parameters()), tuple(student.parameters()), 1 - momentum)
