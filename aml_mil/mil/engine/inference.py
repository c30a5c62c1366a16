"""Apply the stacked heads to whole bags: validation, test and prediction.

Shapes: R replicates, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aml_mil.mil.engine.classifier import bag_losses
from aml_mil.mil.engine.network import StackedHeads
from aml_mil.mil.engine.packing import Packed, pack
from aml_mil.mil.engine.resident import BagRows

GROUP_CELLS = 8192
"""Cells of one replicate that are packed together, unless a single bag has more; bags laid side by
side, each as long as the longest, take twice as much at most."""
GROUP_BAGS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class BagOutputs:
    """What one head says about its bags.

    Attributes:
        logits: [bags, C].
        scores: Attention before the softmax, bag after bag, [sum of sizes, C].
    """

    logits: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]


class Evaluation:
    """The bags each replicate is evaluated on, packed once and used every epoch.

    Args:
        bags: Per replicate.
        device: Where the index tensors go.
    """

    def __init__(self, bags: Sequence[BagRows], *, device: torch.device) -> None:
        self._bags = list(bags)
        self._device = device
        self._groups = [
            pack([b.take(first, last) for b in bags], device=device)
            for first, last in _windows([b.sizes for b in bags])
        ]

    def keep(self, replicates: Sequence[int]) -> "Evaluation":
        """Return the same for some of the replicates."""
        return Evaluation([self._bags[r] for r in replicates], device=self._device)

    def mean_losses(self, heads: StackedHeads) -> npt.NDArray[np.float64]:
        """Return each replicate's mean cross-entropy over its bags, [R]."""
        total = torch.zeros(len(self._bags), dtype=torch.float64, device=self._device)
        for packed, logits, _ in self._outputs(heads):
            total += bag_losses(packed, logits).double().sum(dim=1)
        counts = np.array([len(b.sizes) for b in self._bags])
        result: npt.NDArray[np.float64] = total.cpu().numpy() / counts
        return result

    def outputs(self, heads: StackedHeads) -> list[BagOutputs]:
        """Return logits and scores of every bag, per replicate."""
        logits: list[list[Tensor]] = [[] for _ in self._bags]
        scores: list[list[Tensor]] = [[] for _ in self._bags]
        for packed, group_logits, group_scores in self._outputs(heads):
            for r in range(len(self._bags)):
                logits[r].append(group_logits[r][packed.sizes[r] > 0])
                scores[r].append(group_scores[r][packed.inside[r]])
        return [
            BagOutputs(
                logits=torch.cat(logits[r]).double().cpu().numpy(),
                scores=torch.cat(scores[r]).double().cpu().numpy(),
            )
            for r in range(len(self._bags))
        ]

    def _outputs(self, heads: StackedHeads) -> Iterator["_GroupOutput"]:
        with torch.no_grad():
            for packed in self._groups:
                output = heads.predict(packed)
                yield _GroupOutput(packed, output.logits, output.scores)


class _GroupOutput(NamedTuple):
    packed: Packed
    logits: Tensor
    scores: Tensor


def _windows(sizes: Sequence[npt.NDArray[np.int64]]) -> Iterator[tuple[int, int]]:
    """Cut the replicates' lists of bags at common places, by the number of cells."""
    num_bags = max(len(s) for s in sizes)
    cells = np.zeros((len(sizes), num_bags), np.int64)
    for r, s in enumerate(sizes):
        cells[r, : len(s)] = s
    first = 0
    for last in range(1, num_bags + 1):
        following = cells[:, first : last + 1]
        side_by_side = following.shape[1] * following.max()
        if (
            last == num_bags
            or following.sum(axis=1).max() > GROUP_CELLS
            or side_by_side > 2 * GROUP_CELLS
            or following.shape[1] > GROUP_BAGS
        ):
            yield first, last
            first = last
