"""Settings of patient-level pre-training."""

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

from stores import JSON

EncoderChoice = Literal["auto", "set", "sparse"]
Pooling = Literal["mean", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GigaConfig:
    """How to learn embeddings of patients.

    Sources: G is Lazard et al. (arXiv 2212.03273) and its public code.

    Attributes:
        encoder: set takes cells in any order; sparse convolves over their places; auto is sparse
            where every cell has a place. Source: G (sparse), ours (set).
        pooling: How the set encoder joins cells. Source: ours.
        cells: Cells drawn for a view of a patient. Source: G.
        grid_step: Side of a square of the sparse encoder's grid, in units of the coords; without
            it the median distance of a training cell to its nearest neighbour. Source: ours.
        width: Dimensions of an embedding. Source: G.
        head_out: Dimensions in which views are compared. Source: G.
        temperature: Divides the cosines. Source: G.
        epochs: Length of the run. Source: G (1,000 to 3,000).
        batch_size: Most patients of a step; all training patients where there are fewer.
            Source: G.
        lr: Peak learning rate of Adam at batch size 256, in proportion at others. Source: G.
        weight_decay: Of weights; biases and norms have none. Source: ours.
        warmup: Linear rise of the learning rate: below 1 a share of the run, else epochs.
            Source: G (10 of 1,000 epochs).
        seed: Of weights, orders and draws. Source: ours.
        device: auto is CUDA where there is one. Source: ours.

    Raises:
        ValueError: A value is outside its range.
    """

    encoder: EncoderChoice = "auto"
    pooling: Pooling = "mean"
    cells: int = 5
    grid_step: float | None = None
    width: int = 512
    head_out: int = 256
    temperature: float = 0.05
    epochs: int = 1000
    batch_size: int = 256
    lr: float = 0.03
    weight_decay: float = 1e-4
    warmup: float = 0.01
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, choices in (("encoder", EncoderChoice), ("pooling", Pooling)):
            if getattr(self, name) not in get_args(choices):
                expected = ", ".join(get_args(choices))
                raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)!r}")
        for name in ("cells", "width", "head_out", "epochs"):
            self._require(name, getattr(self, name) >= 1, "1 or more")
        self._require("batch_size", self.batch_size >= 2, "2 or more")
        for name in ("temperature", "lr"):
            self._require(name, getattr(self, name) > 0, "a number above 0")
        for name in ("weight_decay", "warmup", "seed"):
            self._require(name, getattr(self, name) >= 0, "0 or more")
        self._require("grid_step", self.grid_step is None or self.grid_step > 0, "above 0")
        if self.grid_step is not None and self.encoder == "set":
            raise ValueError("grid_step has no effect on the set encoder; leave one of them out")
        if self.pooling != "mean" and self.encoder == "sparse":
            raise ValueError("pooling has no effect on the sparse encoder; leave one of them out")

    def to_json(self) -> dict[str, JSON]:
        """Return the settings as JSON values, in the order they are declared."""
        return dataclasses.asdict(self)

    def _require(self, name: str, holds: bool, expected: str) -> None:  # noqa: FBT001
        if not holds:
            raise ValueError(f"{name}: expected {expected}, got {getattr(self, name)}")
