"""Forward and backward pass of the stacked heads over packed bags.

Shapes: R replicates, M cells of a replicate, D features, K reduced features, A attention units,
S bags, C classes. A primed width is rounded up, with columns of zeros; see ``layers``.

Each matrix product covers all replicates and all their cells.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from aml_mil.mil.engine.classifier import classifier_step, classify
from aml_mil.mil.engine.layers import (
    LinearGradients,
    StackedLinear,
    padded,
    relu_backward_,
    tanh_backward_,
)
from aml_mil.mil.engine.packing import Packed
from aml_mil.mil.engine.segments import BagColumns, BagSoftmax
from aml_mil.mil.engine.workspace import Workspace

Parameters = dict[str, Tensor]
"""Parameters of R heads by the names of a head's state dict, each with a leading R."""

BLOCK_CELLS = 4096
"""Cells of a replicate whose activations are held at once where none are kept for gradients."""


class StackedOutput(NamedTuple):
    """What the heads say about packed bags."""

    logits: Tensor
    """[R, S, C]; meaningless where there is no bag."""
    scores: Tensor
    """Attention before the softmax, [R, M, C]."""


class StackedStep(NamedTuple):
    """Losses and gradients of one step."""

    losses: Tensor
    """Cross-entropy of each bag, 0 where there is none, [R, S]."""
    gradients: Parameters
    """Of the sum of each replicate's losses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Activations:
    """What the forward pass leaves for the backward pass."""

    inputs: list[Tensor]
    """What each layer of the reduction was applied to, [R, M, width']."""
    reduced: Tensor
    """[R, M, K']."""
    hidden: Tensor
    """tanh of the attention's first layer, [R, M, A']."""
    scores: Tensor
    """[R, M, C], in the precision of sums."""


class StackedHeads:
    """Compute R heads at once.

    Args:
        parameters: Stacked parameters; their dtype is that of sums, softmax and gradients. They
            may change in place, which ``refresh`` takes over.
        table: The resident rows, [rows, D']; their dtype is that of the large products' operands.
        workspace: Memory for the activations.
    """

    def __init__(self, parameters: Parameters, *, table: Tensor, workspace: Workspace) -> None:
        self._parameters = parameters
        self._table = table
        self._workspace = workspace
        self._sum_dtype = parameters["attention_score.weight"].dtype
        names = dict.fromkeys(name.rpartition(".")[0] for name in parameters)
        self._layers = {n: self._linear(n) for n in names if not n.startswith("classifier")}
        self._reduction = [n for n in self._layers if n.startswith("reduction")]

    def refresh(self) -> None:
        """Take over the parameters as they are now."""
        for layer in self._layers.values():
            layer.refresh()

    def predict(self, packed: Packed) -> StackedOutput:
        """Classify bags without gradients, holding the activations of one block at a time."""
        num_cells = packed.rows.shape[1]
        parts = []
        for start in range(0, num_cells, BLOCK_CELLS):
            block = self._forward(packed.rows[:, start : start + BLOCK_CELLS])
            parts.append((block.reduced.clone(), block.scores))
        reduced, scores = (torch.cat(values, dim=1) for values in zip(*parts, strict=True))
        columns = BagColumns(packed, num_classes=scores.shape[2])
        spread = self._spread(columns, BagSoftmax(packed, scores).weights)
        logits = classify(self._parameters, self._pool(packed, spread, reduced))
        return StackedOutput(logits=logits, scores=scores)

    def step(self, packed: Packed) -> StackedStep:
        """Return the losses of the bags and the gradients of each replicate's sum of losses."""
        cells = self._forward(packed.rows)
        softmax = BagSoftmax(packed, cells.scores)
        columns = BagColumns(packed, num_classes=cells.scores.shape[2])
        spread = self._spread(columns, softmax.weights)
        bags = self._pool(packed, spread, cells.reduced)
        losses, grad_bags, gradients = classifier_step(self._parameters, packed, bags)
        grad_bags = pad(grad_bags.flatten(1, 2), (0, cells.reduced.shape[2] - grad_bags.shape[3]))
        grad_bags = grad_bags.to(self._table.dtype)
        products = self._lend("products", *spread.shape)
        torch.bmm(cells.reduced, grad_bags.mT, out=products)
        grad_scores = softmax.backward(columns.own(products).to(self._sum_dtype))
        grad_reduced = self._attention_backward(cells, grad_scores, gradients)
        grad_reduced.baddbmm_(spread, grad_bags)
        self._reduction_backward(cells, grad_reduced, gradients)
        return StackedStep(losses=losses, gradients=gradients)

    def _forward(self, rows: Tensor) -> _Activations:
        """Run cells [R, M] of the table through reduction and attention."""
        reduced = self._lend("features", *rows.shape, self._table.shape[1])
        torch.index_select(self._table, 0, rows.reshape(-1), out=reduced.flatten(0, 1))
        inputs = []
        for name in self._reduction:
            inputs.append(reduced)
            reduced = self._layers[name].forward(reduced).relu_()
        hidden = self._layers["attention_hidden"].forward(reduced).tanh_()
        scores = self._scores(hidden)
        return _Activations(inputs=inputs, reduced=reduced, hidden=hidden, scores=scores)

    def _scores(self, hidden: Tensor) -> Tensor:
        """Score the cells in the precision of sums, whatever that of the operands."""
        weight = self._parameters["attention_score.weight"]
        bias = self._parameters["attention_score.bias"].unsqueeze(1)
        if hidden.dtype != self._sum_dtype:
            wide = self._workspace.take("wide hidden", tuple(hidden.shape), self._sum_dtype)
            hidden = wide.copy_(hidden)
        return torch.baddbmm(bias, hidden[:, :, : weight.shape[2]], weight.mT)

    def _attention_backward(
        self, cells: _Activations, grad_scores: Tensor, gradients: Parameters
    ) -> Tensor:
        """Add the attention's gradients; return that of the reduced cells, [R, M, K']."""
        score, hidden = self._layers["attention_score"], self._layers["attention_hidden"]
        padding = padded(grad_scores.shape[2], self._table) - grad_scores.shape[2]
        grad = pad(grad_scores.to(self._table.dtype), (0, padding))
        _note(gradients, "attention_score", score.gradients(cells.hidden, grad))
        grad = tanh_backward_(score.input_gradient(grad), cells.hidden)
        _note(gradients, "attention_hidden", hidden.gradients(cells.reduced, grad))
        return hidden.input_gradient(grad)

    def _reduction_backward(self, cells: _Activations, grad: Tensor, gradients: Parameters) -> None:
        """Add the reduction's gradients, given that of the reduced cells."""
        outputs = [*cells.inputs[1:], cells.reduced]
        for i, name in reversed(list(enumerate(self._reduction))):
            relu_backward_(grad, outputs[i])
            _note(gradients, name, self._layers[name].gradients(cells.inputs[i], grad))
            if i > 0:
                grad = self._layers[name].input_gradient(grad)

    def _spread(self, columns: BagColumns, weights: Tensor) -> Tensor:
        memory = self._lend("spread", *columns.shape)
        return columns.spread(weights.to(self._table.dtype), out=memory)

    def _pool(self, packed: Packed, spread: Tensor, reduced: Tensor) -> Tensor:
        """Return the bag vectors, [R, S, C, K]."""
        width = self._parameters["classifier_hidden.weight"].shape[3]
        pooled = torch.bmm(spread.mT, reduced)[:, :, :width].to(self._sum_dtype)
        return pooled.reshape(*packed.sizes.shape, -1, width)

    def _lend(self, name: str, *shape: int) -> Tensor:
        return self._workspace.take(name, shape, self._table.dtype)

    def _linear(self, name: str) -> StackedLinear:
        return StackedLinear(
            name,
            self._parameters[f"{name}.weight"],
            self._parameters[f"{name}.bias"],
            dtype=self._table.dtype,
            workspace=self._workspace,
        )


def _note(gradients: Parameters, name: str, values: LinearGradients) -> None:
    gradients[f"{name}.weight"], gradients[f"{name}.bias"] = values
