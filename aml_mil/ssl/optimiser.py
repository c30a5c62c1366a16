"""One optimiser for all methods: which weights decay, and which steps LARC scales."""

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from aml_mil.ssl.larc import scale_gradients
from aml_mil.ssl.method import OptimiserSettings, StepValues


class Trainable(Protocol):
    """A network that says how its weights are moved."""

    @property
    def optimiser(self) -> OptimiserSettings:
        """How the weights are moved."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Iterate over the weights."""


class LayerwiseOptimiser:
    """SGD, Adam or AdamW over the trained weights of a method.

    Args:
        method: Whose weights are moved.

    Attributes:
        inner: The optimiser of torch; its groups are weights, then biases and norms.
    """

    def __init__(self, method: Trainable) -> None:
        trained = [p for p in method.parameters() if p.requires_grad]
        self.weights = [p for p in trained if p.ndim > 1]
        self.others = [p for p in trained if p.ndim <= 1]
        self.settings = method.optimiser
        groups: list[dict[str, Any]] = [
            {"params": self.weights},
            {"params": self.others, "weight_decay": 0.0},
        ]
        self.inner = _build(groups, self.settings)

    def step(self, values: StepValues) -> None:
        """Move the weights; gradients must be unscaled and final.

        Args:
            values: Learning rate and weight decay of this step.
        """
        own_decay = values.weight_decay
        if self.settings.trust_coefficient is not None:
            is_sgd = self.settings.name == "sgd"
            scale_gradients(
                self.weights,
                trust_coefficient=self.settings.trust_coefficient,
                weight_decay=values.weight_decay if is_sgd else 0.0,
            )
            if is_sgd:
                # Plain steps at a rate meant for scaled ones would throw biases and norms far out.
                scale_gradients(self.others, trust_coefficient=self.settings.trust_coefficient)
                own_decay = 0.0
        for group in self.inner.param_groups:
            group["lr"] = values.lr
        self.inner.param_groups[0]["weight_decay"] = own_decay
        self.inner.step()

    def tensors(self) -> dict[str, Tensor]:
        """Return all that is remembered between steps, by weight and name."""
        return {
            f"{index}/{name}": value
            for index, state in self.inner.state_dict()["state"].items()
            for name, value in state.items()
            if value is not None
        }

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `tensors` returned."""
        document = self.inner.state_dict()
        document["state"] = {}
        for key, value in tensors.items():
            index, _, name = key.partition("/")
            document["state"].setdefault(int(index), {})[name] = value
        self.inner.load_state_dict(document)


def _build(groups: list[dict[str, Any]], settings: OptimiserSettings) -> torch.optim.Optimizer:
    if settings.name == "adam":
        return torch.optim.Adam(groups)
    if settings.name == "adamw":
        return torch.optim.AdamW(groups)
    return torch.optim.SGD(
        groups, lr=0.0, momentum=settings.momentum, nesterov=settings.is_nesterov
    )
