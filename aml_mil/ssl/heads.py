"""What stands between the encoder and the losses; thrown away after pre-training.

Shapes: B images, D features, P prototypes, K outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize


class SimclrHead(nn.Sequential):
    """Two linear layers with a ReLU between: D → hidden → out.

    Source:
        Chen et al. 2020, section 2.1; the widths 512-512-64 are the AML paper's.
    """

    def __init__(self, num_features: int, *, hidden: int, out: int) -> None:
        layers = nn.Linear(num_features, hidden), nn.Linear(hidden, out)
        super().__init__(layers[0], nn.ReLU(), layers[1])
        # A bias is one direction that all images share: torch's random one begins near collapse.
        for layer in layers:
            nn.init.zeros_(layer.bias)


class SwavHead(nn.Module):
    """Linear layers with batch norm and ReLU between them, then length 1.

    Args:
        num_features: D.
        hidden: Widths between: two for the AML paper's three layers.
        out: Dimensions of the sphere on which the prototypes lie.
        has_output_norm: See `output_norm`.
    """

    def __init__(
        self, num_features: int, *, hidden: Sequence[int], out: int, has_output_norm: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = num_features
        for following in hidden:
            layers += [nn.Linear(width, following), nn.BatchNorm1d(following), nn.ReLU()]
            width = following
        self.layers = nn.Sequential(
            *layers, nn.Linear(width, out), *output_norm(out, is_wanted=has_output_norm)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Project features, [B, D], to vectors of length 1."""
        projected: Tensor = self.layers(features)
        return normalize(projected.float(), dim=1)


def output_norm(num_dimensions: int, *, is_wanted: bool) -> list[nn.Module]:
    """Return what centres and scales a head's output over the batch, or nothing.

    Features of a random encoder all point one way, and so do their projections. What all share is
    then most of every cosine, and the shortest way down is to make it alike for all prototypes.
    """
    return [nn.BatchNorm1d(num_dimensions, affine=False)] if is_wanted else []


class Prototypes(nn.Module):
    """Directions on the sphere that images are assigned to.

    Args:
        num_dimensions: Of the sphere.
        num_prototypes: P.

    Attributes:
        weight: [P, dimensions], rows of length 1 after `renormalise`.
    """

    def __init__(self, num_dimensions: int, num_prototypes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_prototypes, num_dimensions))
        self.renormalise()

    @torch.no_grad()
    def renormalise(self) -> None:
        """Bring every prototype back to length 1; due after each step."""
        self.weight.copy_(normalize(self.weight, dim=1))

    def forward(self, projections: Tensor) -> Tensor:
        """Compute cosines, [B, P], of projections of length 1."""
        return linear(projections, self.weight)


class DinoHead(nn.Module):
    """Three linear layers with GELU, length 1, then a last layer whose rows have length 1.

    Args:
        num_features: D.
        hidden: Width of the two inner layers.
        bottleneck: Dimensions before the last layer.
        num_outputs: K.
        has_batch_norm: Whether a batch norm stands before each GELU.
        has_output_norm: Whether `output_norm` stands before the last layer.

    Source:
        Caron et al. 2021, appendix C; the last layer's length is fixed as in the official code.
    """

    def __init__(
        self,
        num_features: int,
        *,
        hidden: int,
        bottleneck: int,
        num_outputs: int,
        has_batch_norm: bool = False,
        has_output_norm: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width in (num_features, hidden):
            layers.append(nn.Linear(width, hidden))
            if has_batch_norm:
                layers.append(nn.BatchNorm1d(hidden))
            layers.append(nn.GELU())
        self.layers = nn.Sequential(
            *layers,
            nn.Linear(hidden, bottleneck),
            *output_norm(bottleneck, is_wanted=has_output_norm),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)
        self.last = WeightNormedLinear(bottleneck, num_outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Compute logits, [B, K], of features, [B, D]."""
        projected: Tensor = self.layers(features)
        logits: Tensor = self.last(normalize(projected.float(), dim=1))
        return logits


class WeightNormedLinear(nn.Module):
    """A linear layer that uses the directions of its rows only: all have length 1."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, num_inputs))
        nn.init.trunc_normal_(self.weight, std=0.02)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute [B, K]; cosines where the inputs have length 1."""
        return linear(inputs, normalize(self.weight, dim=1).to(inputs))
