"""Linear layers of all replicates at once, writing into memory they are given.

Shapes: R replicates, M cells of a replicate, I inputs, O outputs; I' and O' are I and O rounded up
to what matrix products are fast at.

Rows carry columns of zeros up to I'. They meet weights of zero and give outputs, and gradients, of
zero. In fp32 a layer of 300 outputs computes 304 in a fifth less time; bf16 on a CPU gains nothing
and is left alone.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from aml_mil.mil.engine.workspace import Workspace

WIDTH_STEP = 16

_relu_backward: Any = torch.ops.aten.threshold_backward.grad_input
_tanh_backward: Any = torch.ops.aten.tanh_backward.grad_input


def padded(width: int, like: Tensor) -> int:
    """Round a width up to what products of such operands are fast at.

    Args:
        width: Columns that mean something.
        like: A tensor of the operands' number format and device.
    """
    if like.dtype == torch.bfloat16 and like.device.type == "cpu":
        return width
    return round_up(width)


def round_up(count: int) -> int:
    """Round up to a multiple of 16."""
    return -(-count // WIDTH_STEP) * WIDTH_STEP


class LinearGradients(NamedTuple):
    """Gradients of a layer, in the precision of its weights."""

    weight: Tensor
    """[R, O, I]."""
    bias: Tensor
    """[R, O]."""


class StackedLinear:
    """Apply each replicate's linear layer to that replicate's rows.

    Args:
        name: Of the layer, unique in the workspace.
        weight: Master weights, [R, O, I]; they may change in place.
        bias: [R, O]; likewise.
        dtype: Number format of the matrix products' operands.
        workspace: Memory for results.
    """

    def __init__(
        self, name: str, weight: Tensor, bias: Tensor, *, dtype: torch.dtype, workspace: Workspace
    ) -> None:
        self._name = name
        self._master_weight, self._master_bias = weight, bias
        replicates, outputs, inputs = weight.shape
        like = weight.new_empty(0, dtype=dtype)
        rows, columns = padded(outputs, like), padded(inputs, like)
        self._weight = like.new_zeros(replicates, rows, columns)
        self._bias = like.new_zeros(replicates, 1, rows)
        self._workspace = workspace
        self.refresh()

    def refresh(self) -> None:
        """Take over the master weights as they are now."""
        outputs, inputs = self._master_weight.shape[1:]
        self._weight[:, :outputs, :inputs] = self._master_weight
        self._bias[:, 0, :outputs] = self._master_bias

    def forward(self, rows: Tensor) -> Tensor:
        """Return rows W^T + b, [R, M, I'] → [R, M, O']."""
        out = self._lend("outputs", rows.shape[0], rows.shape[1], self._weight.shape[1])
        return torch.baddbmm(self._bias, rows, self._weight.mT, out=out)

    def gradients(self, rows: Tensor, grad: Tensor) -> LinearGradients:
        """Return the gradients of weight and bias, summed over the cells.

        Args:
            rows: What the layer was applied to, [R, M, I'].
            grad: Gradient of what it returned, [R, M, O'].
        """
        outputs, inputs = self._master_weight.shape[1:]
        ones = grad.new_ones(1, 1, 1).expand(grad.shape[0], 1, grad.shape[1])
        weight = torch.bmm(grad.mT, rows, out=self._lend("weight", *self._weight.shape))
        bias = torch.bmm(ones, grad)
        summed = self._workspace.take(
            f"{self._name} gradient", self._master_weight.shape, self._master_weight.dtype
        )
        return LinearGradients(
            weight=summed.copy_(weight[:, :outputs, :inputs]),
            bias=bias[:, 0, :outputs].to(summed.dtype).contiguous(),
        )

    def input_gradient(self, grad: Tensor) -> Tensor:
        """Return the gradient of the rows the layer was applied to, [R, M, I']."""
        out = self._lend("input gradient", *grad.shape[:2], self._weight.shape[2])
        return torch.bmm(grad, self._weight, out=out)

    def _lend(self, what: str, *shape: int) -> Tensor:
        return self._workspace.take(f"{self._name} {what}", shape, self._weight.dtype)


def relu_backward_(grad: Tensor, activated: Tensor) -> Tensor:
    """Turn the gradient after a ReLU into that before it, given what the ReLU returned."""
    result: Tensor = _relu_backward(grad, activated, 0, grad_input=grad)
    return result


def tanh_backward_(grad: Tensor, activated: Tensor) -> Tensor:
    """Turn the gradient after a tanh into that before it, given what the tanh returned."""
    result: Tensor = _tanh_backward(grad, activated, grad_input=grad)
    return result
