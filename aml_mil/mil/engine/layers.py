"""Linear layers of all replicates at once, writing into memory they are given.

Shapes: R replicates, M rows of a replicate, I inputs, O outputs, T taps (1, or the 4 of a 2x2
convolution); a primed width is rounded up to what matrix products are fast at, with room for one
column more.

Rows carry, behind the I columns that mean something, a column of ones and then zeros. A layer's
bias stands in the column of its weights that meets the ones, so that one product adds it, and one
product of the backward pass gives both gradients. A layer whose outputs go on through a ReLU into
another layer makes the ones of its own outputs by a weight of 1 that no step touches.

ReLU and its derivative treat bf16 and fp16 as whole numbers of 16 bits, which have the same signs:
ATen takes five times as long over bf16 itself. A NaN with the sign set becomes 0 that way.
"""

from typing import Any

import torch
from torch import Tensor

from aml_mil.mil.engine.workspace import Workspace

WIDTH_STEP = 16

Parameters = dict[str, Tensor]
"""Parameters of R heads by the names of a head's state dict, each with a leading R."""

_relu_backward: Any = torch.ops.aten.threshold_backward.grad_input


def padded(width: int) -> int:
    """Return the columns of rows of some width: a column of ones and zeros behind it."""
    return round_up(width + 1)


def round_up(count: int) -> int:
    """Round up to a multiple of 16."""
    return -(-count // WIDTH_STEP) * WIDTH_STEP


class StackedLinear:
    """Apply each replicate's linear layer to that replicate's rows.

    Args:
        name: Of the layer among the parameters.
        parameters: Stacked parameters, among them the layer's weight, [R, O, I] or, for a
            convolution, [R, O, I, 2, 2], and bias, [R, O]; they may change in place.
        keeps_ones: Whether the outputs carry a column of ones as the inputs do.
        dtype: Number format of the matrix products' operands.
        workspace: Memory for results.
    """

    def __init__(
        self,
        name: str,
        parameters: Parameters,
        *,
        keeps_ones: bool,
        dtype: torch.dtype,
        workspace: Workspace,
    ) -> None:
        self._name, self._workspace = name, workspace
        self._bias = parameters[f"{name}.bias"]
        self._weight = parameters[f"{name}.weight"]
        replicates, outputs, inputs = self._weight.shape[:3]
        self.num_taps = self._weight[0, 0, 0].numel()
        rows = padded(outputs) if keeps_ones else round_up(outputs)
        self._operand = self._weight.new_zeros(
            replicates, rows, self.num_taps, padded(inputs), dtype=dtype
        )
        if keeps_ones:
            self._operand[:, outputs, 0, inputs] = 1
        self._matrix = self._operand.flatten(2)
        self.refresh()

    def refresh(self) -> None:
        """Take over the master weights as they are now."""
        outputs, inputs = self._weight.shape[1:3]
        self._operand[:, :outputs, :, :inputs] = (
            self._weight.flatten(3).mT if (self.num_taps > 1) else self._weight.unsqueeze(2)
        )
        self._operand[:, :outputs, 0, inputs] = self._bias

    def forward(self, rows: Tensor, *, block: int = 0) -> Tensor:
        """Return rows W^T + b, [R, M, T * I'] → [R, M, O'].

        Args:
            rows: What the layer is applied to.
            block: Blocks of different numbers get different memory.
        """
        out = self._lend(f"outputs {block}", rows.shape[0], rows.shape[1], self._matrix.shape[1])
        return torch.bmm(rows, self._matrix.mT, out=out)

    def add_gradients(self, rows: Tensor, grad: Tensor, *, into: Parameters) -> None:
        """Add the gradients of weight and bias, summed over the rows, to what is noted already.

        Args:
            rows: What the layer was applied to, [R, M, T * I'].
            grad: Gradient of what it returned, [R, M, O'].
            into: Where gradients are noted.
        """
        outputs, inputs = self._weight.shape[1:3]
        both = torch.bmm(grad.mT, rows, out=self._lend("gradient", *self._matrix.shape))
        both = both.view_as(self._operand)[:, :outputs]
        weight = both[..., :inputs].mT.reshape(self._weight.shape)
        bias = both[:, :, 0, inputs]
        for name, parameter, part in (
            (f"{self._name}.weight", self._weight, weight),
            (f"{self._name}.bias", self._bias, bias),
        ):
            if name in into:
                into[name].add_(part)
            else:
                summed = self._workspace.take(f"{name} summed", parameter.shape, parameter.dtype)
                into[name] = summed.copy_(part)

    def input_gradient(self, grad: Tensor) -> Tensor:
        """Return the gradient of the rows the layer was applied to, [R, M, T * I']."""
        out = self._lend("input gradient", *grad.shape[:2], self._matrix.shape[2])
        return torch.bmm(grad, self._matrix, out=out)

    def add_input_gradient(self, grad: Tensor, *, to: Tensor) -> Tensor:
        """Add the gradient of the rows to another of theirs, in place."""
        return to.baddbmm_(grad, self._matrix)

    def _lend(self, what: str, *shape: int) -> Tensor:
        return self._workspace.take(f"{self._name} {what}", shape, self._matrix.dtype)


def relu_(values: Tensor) -> Tensor:
    """Apply a ReLU in place."""
    _signed(values).clamp_(min=0)
    return values


def relu_backward_(grad: Tensor, activated: Tensor) -> Tensor:
    """Turn the gradient after a ReLU into that before it, given what the ReLU returned."""
    signed = _signed(grad)
    _relu_backward(signed, _signed(activated), 0, grad_input=signed)
    return grad


def _signed(values: Tensor) -> Tensor:
    """View numbers of 16 bits as whole numbers of the same sign, others as they are."""
    return values.view(torch.int16) if values.itemsize == 2 else values
