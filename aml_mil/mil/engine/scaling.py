"""Standardised features without a copy of them: the scaling lives in the first layer.

Training on (x - mean) / sd with weights W, b is training on x with the weights W / sd and
b - W mean / sd. The optimiser steps W and b; the products see the folded weights, which are also
what is kept, so that a trained head takes features as they are stored.

Shapes: R replicates, D features, O outputs of the first layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from aml_mil.mil.engine.network import Parameters

FIRST_WEIGHT, FIRST_BIAS = "reduction.0.weight", "reduction.0.bias"
CONSTANT_SD = 1e-7  # s.d. over mean, which rounding alone can leave of a constant


class FeatureScaling(NamedTuple):
    """What a replicate's training cells look like, feature by feature."""

    mean: npt.NDArray[np.float64]
    """[D]."""
    sd: npt.NDArray[np.float64]
    """[D]; a feature of (nearly) 0 is constant and takes no part."""


class StackedScaling:
    """Fold each replicate's scaling into its first layer.

    Args:
        scalings: Of each replicate.
        dtype: Of the parameters.
        device: Of the parameters.
    """

    def __init__(
        self, scalings: Sequence[FeatureScaling], *, dtype: torch.dtype, device: torch.device
    ) -> None:
        mean = torch.from_numpy(np.stack([s.mean for s in scalings]))
        sd = torch.from_numpy(np.stack([s.sd for s in scalings]))
        is_constant = sd <= CONSTANT_SD * mean.abs()
        scale = torch.where(is_constant, 0.0, 1 / sd)
        self._scale = scale.unsqueeze(1).to(device, dtype)  # [R, 1, D]
        self._shift = (mean * scale).unsqueeze(1).to(device, dtype)

    def fold(self, parameters: Parameters) -> Parameters:
        """Return the parameters for features as they are; all but two are the same tensors."""
        weight, bias = parameters[FIRST_WEIGHT], parameters[FIRST_BIAS]
        return parameters | {
            FIRST_WEIGHT: weight * self._scale,
            FIRST_BIAS: bias - (weight * self._shift).sum(dim=2),
        }

    def fold_into(self, folded: Parameters, parameters: Parameters) -> None:
        """Bring what ``fold`` returned up to date, in place."""
        for name, value in self.fold(parameters).items():
            if name in (FIRST_WEIGHT, FIRST_BIAS):
                folded[name].copy_(value)

    def unfold_gradients(self, gradients: Parameters) -> Parameters:
        """Turn gradients of the folded parameters into those of the unfolded ones."""
        weight, bias = gradients[FIRST_WEIGHT], gradients[FIRST_BIAS].unsqueeze(2)
        return gradients | {FIRST_WEIGHT: weight * self._scale - bias * self._shift}

    def keep(self, replicates: Sequence[int]) -> None:
        """Drop the other replicates from the stack."""
        rows = list(replicates)
        self._scale, self._shift = self._scale[rows], self._shift[rows]
