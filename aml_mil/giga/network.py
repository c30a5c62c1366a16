"""The network that is trained: scaling, encoder of patients, projector, loss.

Shapes: B sets of k cells, D features, H dimensions of an embedding.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from aml_mil.giga.bags import CellSets
from aml_mil.giga.config import Pooling
from aml_mil.giga.set_encoder import SetEncoder
from aml_mil.giga.sparse_encoder import SparseEncoder
from stores import JSON

MIN_SD = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderShape:
    """What must be known to build an encoder of patients.

    Attributes:
        kind: set or sparse.
        num_features: D.
        width: H.
        pooling: Of the set encoder.
        grid_step: Side of a square of the sparse encoder; None for the set encoder.
        cells: Cells of a set it was made for.
    """

    kind: Literal["set", "sparse"]
    num_features: int
    width: int
    pooling: Pooling
    grid_step: float | None
    cells: int

    def to_json(self) -> dict[str, JSON]:
        """Return the shape as JSON values."""
        return asdict(self)


class PatientEncoder(nn.Module):
    """Features of cells → one vector for a patient.

    Args:
        shape: Of the network.

    Attributes:
        mean: Of each feature over the training patients' cells, subtracted first, [D].
        sd: Divides what is left, [D].
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, shape: EncoderShape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("mean", torch.zeros(shape.num_features))
        self.register_buffer("sd", torch.ones(shape.num_features))
        self.network: nn.Module
        if shape.kind == "sparse":
            assert shape.grid_step is not None
            self.network = SparseEncoder(
                shape.num_features, width=shape.width, grid_step=shape.grid_step
            )
        else:
            self.network = SetEncoder(shape.num_features, width=shape.width, pooling=shape.pooling)

    @torch.no_grad()
    def set_scale(self, mean: Tensor, sd: Tensor) -> None:
        """Take over mean and s.d. of the features; one that never changes is left unscaled."""
        self.mean.copy_(mean)
        self.sd.copy_(torch.where(sd > MIN_SD, sd, torch.ones_like(sd)))

    def forward(self, sets: CellSets) -> Tensor:
        """Encode sets of cells, [B, k, D], to vectors, [B, H]."""
        scaled = (sets.features - self.mean) / self.sd
        encoded: Tensor = self.network(CellSets(scaled, sets.places))
        return encoded


class Projector(nn.Sequential):
    """Three linear layers with batch norm and ReLU between: H → H → H → out.

    Source:
        Lazard et al. 2022 (512-512-512-256), https://arxiv.org/abs/2212.03273
    """

    def __init__(self, width: int, *, out: int) -> None:
        layers: list[Any] = []
        for _ in range(2):
            layers += [nn.Linear(width, width, bias=False), nn.BatchNorm1d(width), nn.ReLU()]
        super().__init__(*layers, nn.Linear(width, out, bias=False))


def build_encoder(shape: EncoderShape, *, seed: int) -> PatientEncoder:
    """Create an encoder with random weights; the caller's generator is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return PatientEncoder(shape)
