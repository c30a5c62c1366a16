"""What fp16 needs and wider formats do not: numbers that neither vanish nor overflow.

A cell's gradient is its bag's, shared out among hundreds of cells; below 6e-8 fp16 knows only 0.
A weight that brings a feature to s.d. 1 is over 65,504 where the feature hardly varies.
"""

import torch
from torch import Tensor

LARGEST_EXPONENT = 4
"""The largest gradient of a replicate's bag vectors is brought below 2 to this power: sums of the
products that follow stay far below 65,504."""

SMALLEST_SD = 2.0**-14
"""Features that vary less are constant to fp16: below it, numbers have fewer digits."""


def gradient_scale(grad_bags: Tensor) -> Tensor:
    """Return what each replicate's gradients are multiplied by, a power of two, [R].

    As every step chooses anew by what it meets, no step is skipped and nothing is remembered.

    Args:
        grad_bags: Gradients of the bag vectors, [R, S, A, K].
    """
    largest = grad_bags.abs().amax(dim=(1, 2, 3))
    exponent = torch.frexp(largest).exponent.clamp(-100, 100)
    return torch.ldexp(torch.ones_like(largest), LARGEST_EXPONENT - exponent)
