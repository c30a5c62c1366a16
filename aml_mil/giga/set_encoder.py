"""A patient as a set of cells: what the order of the cells cannot change.

Shapes: B sets of k cells, D features, H dimensions of an embedding.
"""

from torch import Tensor, nn

from aml_mil.giga.bags import CellSets
from aml_mil.giga.config import Pooling

ATTENTION_HIDDEN = 128


class SetEncoder(nn.Module):
    """The same two layers for every cell, then one vector for all.

    Args:
        num_features: D.
        width: H.
        pooling: mean, or attention: a mean with weights that the cells give themselves.

    Source:
        Zaheer et al. 2017, theorem 2, https://arxiv.org/abs/1703.06114
    """

    def __init__(self, num_features: int, *, width: int, pooling: Pooling) -> None:
        super().__init__()
        self.cells = nn.Sequential(
            nn.Linear(num_features, width),
            nn.LayerNorm(width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.LayerNorm(width),
            nn.ReLU(),
        )
        self.attention: nn.Module | None = None
        if pooling == "attention":
            self.attention = nn.Sequential(
                nn.Linear(width, ATTENTION_HIDDEN), nn.Tanh(), nn.Linear(ATTENTION_HIDDEN, 1)
            )

    def forward(self, sets: CellSets) -> Tensor:
        """Encode sets of cells, [B, k, D], to vectors, [B, H]."""
        cells: Tensor = self.cells(sets.features)
        if self.attention is None:
            return cells.mean(1)
        weights: Tensor = self.attention(cells).softmax(1)
        return (weights * cells).sum(1)
