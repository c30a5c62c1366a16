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

from aml_mil.mil.engine.layers import Parameters

FIRST_WEIGHT, FIRST_BIAS = "reduction.0.weight", "reduction.0.bias"
CONSTANT_SD = 1e-7  # s.d. over mean, which rounding alone can leave of a constant


class FeatureScaling(NamedTuple):
    """What a replicate's training cells look like, feature by feature."""

    mean: npt.NDArray[np.float64]
    """[D]."""
    sd: npt.NDArray[np.float64]
    """[D]; a feature of (nearly) 0 is constant and takes no part."""

    @classmethod
    def of(cls, mean: npt.NDArray[np.float64], sd: npt.NDArray[np.float64]) -> "FeatureScaling":
        """Take the statistics of vectors, [D], or of maps, [D, H, W], over whose positions go."""
        positions = tuple(range(1, mean.ndim))
        overall = mean.mean(axis=positions, keepdims=True)
        variance = (sd**2 + (mean - overall) ** 2).mean(axis=positions)
        return cls(mean=overall.reshape(-1), sd=np.sqrt(variance))


class StackedScaling:
    """Fold each replicate's scaling into its first layer.

    Args:
        scalings: Of each replicate.
        num_taps_dims: Dimensions of the first layer's weight behind the features: 2 on maps.
        smallest_sd: A feature that varies less takes no part, as a constant one.
        dtype: Of the parameters.
        device: Of the parameters.
    """

    def __init__(
        self,
        scalings: Sequence[FeatureScaling],
        *,
        num_taps_dims: int,
        smallest_sd: float,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        mean = torch.from_numpy(np.stack([s.mean for s in scalings]))
        sd = torch.from_numpy(np.stack([s.sd for s in scalings]))
        is_constant = sd <= (CONSTANT_SD * mean.abs()).clamp(min=smallest_sd)
        scale = torch.where(is_constant, 0.0, 1 / sd)
        shape = (len(scalings), 1, -1, *[1] * num_taps_dims)
        self._scale = scale.view(shape).to(device, dtype)  # [R, 1, D] or, on maps, [R, 1, D, 1, 1]
        self._shift = (mean * scale).view(shape).to(device, dtype)

    def fold(self, parameters: Parameters) -> Parameters:
        """Return the parameters for features as they are; all but two are the same tensors."""
        weight, bias = parameters[FIRST_WEIGHT], parameters[FIRST_BIAS]
        return parameters | {
            FIRST_WEIGHT: weight * self._scale,
            FIRST_BIAS: bias - (weight * self._shift).flatten(2).sum(dim=2),
        }

    def fold_into(self, folded: Parameters, parameters: Parameters) -> None:
        """Bring what ``fold`` returned up to date, in place."""
        for name, value in self.fold(parameters).items():
            if name in (FIRST_WEIGHT, FIRST_BIAS):
                folded[name].copy_(value)

    def unfold_gradients(self, gradients: Parameters) -> Parameters:
        """Turn gradients of the folded parameters into those of the unfolded ones."""
        weight, bias = gradients[FIRST_WEIGHT], gradients[FIRST_BIAS]
        bias = bias.view(*bias.shape, *[1] * (weight.dim() - 2))
        return gradients | {FIRST_WEIGHT: weight * self._scale - bias * self._shift}

    def keep(self, replicates: Sequence[int]) -> None:
        """Drop the other replicates from the stack."""
        rows = list(replicates)
        self._scale, self._shift = self._scale[rows], self._shift[rows]
