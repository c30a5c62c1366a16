"""The attention of all replicates: scores of reduced cells, and their derivatives.

Shapes: R replicates, M cells of a replicate, K reduced features, U hidden units, A attentions.
A primed width is rounded up; see ``layers``.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from aml_mil.mil.engine.layers import Parameters, StackedLinear, round_up
from aml_mil.mil.engine.workspace import Workspace

HIDDEN, GATE, SCORE = "attention_hidden", "attention_gate", "attention_score"


class Scored(NamedTuple):
    """What the forward pass leaves for the backward pass."""

    scores: Tensor
    """[R, M, A], in the precision of sums."""
    hidden: Tensor
    """tanh of the hidden units, [R, M, U']."""
    gate: Tensor | None
    """sigmoid of the gate's units, [R, M, U']; None without a gate."""


class StackedAttention:
    """Score cells by Linear-tanh-Linear, the hidden units gated where there is a gate.

    Args:
        parameters: Stacked parameters.
        dtype: Number format of the large products' operands.
        workspace: Memory for the activations.
    """

    def __init__(self, parameters: Parameters, *, dtype: torch.dtype, workspace: Workspace) -> None:
        self._weight = parameters[f"{SCORE}.weight"]
        self._bias = parameters[f"{SCORE}.bias"]
        self._workspace, self._dtype = workspace, dtype
        self._layers = {
            name: StackedLinear(
                name, parameters, keeps_ones=False, dtype=dtype, workspace=workspace
            )
            for name in (HIDDEN, GATE)
            if f"{name}.weight" in parameters
        }
        replicates, attentions, units = self._weight.shape
        self._operand = self._weight.new_zeros(
            replicates, round_up(attentions), round_up(units), dtype=dtype
        )
        self.refresh()

    def refresh(self) -> None:
        """Take over the parameters as they are now."""
        for layer in self._layers.values():
            layer.refresh()
        self._operand[:, : self._weight.shape[1], : self._weight.shape[2]] = self._weight

    def forward(self, reduced: Tensor) -> Scored:
        """Score reduced cells, [R, M, K'].

        tanh, sigmoid and scores are computed in the precision of sums, whatever the operands'.
        """
        hidden = self._activated(HIDDEN, reduced).tanh_()
        product, gate = hidden, None
        if GATE in self._layers:
            wide_gate = self._activated(GATE, reduced).sigmoid_()
            product, gate = hidden * wide_gate, self._narrow(GATE, wide_gate)
        units = self._weight.shape[2]
        scores = torch.baddbmm(self._bias.unsqueeze(1), product[..., :units], self._weight.mT)
        return Scored(scores=scores, hidden=self._narrow(HIDDEN, hidden), gate=gate)

    def backward(
        self, scored: Scored, reduced: Tensor, grad_scores: Tensor, *, into: Parameters
    ) -> Tensor:
        """Note the attention's gradients; return that of the reduced cells, [R, M, K'].

        The scores' bias gets none: a softmax does not see a shift of all its inputs.
        """
        padding = self._operand.shape[1] - grad_scores.shape[2]
        grad = pad(grad_scores.to(self._dtype), (0, padding))
        hidden, gate = scored.hidden, scored.gate
        product = hidden if gate is None else hidden * gate
        attentions, units = self._weight.shape[1:]
        weight = torch.bmm(grad.mT, product)[:, :attentions, :units]
        into[f"{SCORE}.weight"] = weight.to(self._weight.dtype, copy=True).contiguous()
        into[f"{SCORE}.bias"] = torch.zeros_like(self._bias)
        grad = torch.bmm(grad, self._operand, out=self._lend("product gradient", hidden))
        gate_grad = None if gate is None else torch.ops.aten.sigmoid_backward(grad * hidden, gate)
        grad = grad if gate is None else grad.mul_(gate)
        torch.ops.aten.tanh_backward.grad_input(grad, hidden, grad_input=grad)
        self._layers[HIDDEN].add_gradients(reduced, grad, into=into)
        grad_reduced = self._layers[HIDDEN].input_gradient(grad)
        if gate_grad is not None:
            self._layers[GATE].add_gradients(reduced, gate_grad, into=into)
            self._layers[GATE].add_input_gradient(gate_grad, to=grad_reduced)
        return grad_reduced

    def _activated(self, name: str, reduced: Tensor) -> Tensor:
        """Apply a layer; return its outputs in the precision of sums."""
        outputs = self._layers[name].forward(reduced)
        if outputs.dtype == self._weight.dtype:
            return outputs
        wide = self._workspace.take(f"wide {name}", outputs.shape, self._weight.dtype)
        return wide.copy_(outputs)

    def _narrow(self, name: str, values: Tensor) -> Tensor:
        if values.dtype == self._dtype:
            return values
        return self._workspace.take(f"narrow {name}", values.shape, self._dtype).copy_(values)

    def _lend(self, what: str, like: Tensor) -> Tensor:
        return self._workspace.take(f"attention {what}", like.shape, self._dtype)
