"""Convolutions on maps of a few pixels as matrix products, for training on a CPU.

Shapes: N images, C channels in, K channels out, h x w pixels of the output, s the kernel's side.

On maps of 3 x 3 pixels oneDNN computes the gradient of a ResNet's 3 x 3 weights in bf16 at 7% of
the rate of a matrix product, and the convolution itself at a quarter; see benchmarks/LOG.md.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

LARGEST_SIDE_PX = 4


class LoweredConv2d(nn.Conv2d):
    """A convolution that is one matrix product where its output is at most 4 x 4 pixels.

    The parameters, and up to rounding the results, are those of `torch.nn.Conv2d`.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Convolve, [N, C, H, W] → [N, K, h, w]."""
        stride, padding, side = self.stride[0], int(self.padding[0]), self.kernel_size[0]
        height, width = ((size + 2 * padding - side) // stride + 1 for size in images.shape[2:])
        if max(height, width) > LARGEST_SIDE_PX:
            return super().forward(images)
        if torch.is_autocast_enabled(images.device.type):
            dtype = torch.get_autocast_dtype(images.device.type)
            images, weight = images.to(dtype), self.weight.to(dtype)
        else:
            weight = self.weight
        output: Tensor = _Product.apply(images, weight, stride, padding, (height, width))
        return output


def lower_small_maps(network: nn.Module) -> None:
    """Make the square, ungrouped convolutions of a network that exceed 1 x 1 `LoweredConv2d`."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = LoweredConv2d


def _is_plain(module: nn.Conv2d) -> bool:
    return (
        module.kernel_size[0] == module.kernel_size[1] > 1
        and module.stride[0] == module.stride[1]
        and not isinstance(module.padding, str)
        and module.padding[0] == module.padding[1]
        and module.padding_mode == "zeros"
        and module.dilation == (1, 1)
        and module.groups == 1
        and module.bias is None
    )


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int, size: tuple[int, int]
    ) -> Tensor:
        """Multiply the columns by the weights."""
        columns = _columns(images, weight.shape[-1], stride, padding, size)
        rows = weight.permute(0, 2, 3, 1).reshape(len(weight), -1)
        ctx.save_for_backward(columns, rows)
        ctx.geometry = images.shape, weight.shape, stride, padding, size
        output = (columns @ rows.T).view(len(images), *size, len(weight))
        return output.permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Return the gradients of images and weights."""
        columns, rows = ctx.saved_tensors
        image_shape, weight_shape, stride, padding, size = ctx.geometry
        gradient = gradients[0].permute(0, 2, 3, 1).reshape(-1, len(rows))
        k, c, side, _ = weight_shape
        of_weight = (gradient.T @ columns).view(k, side, side, c).permute(0, 3, 1, 2)
        patches = (gradient @ rows).view(image_shape[0], *size, side, side, c)
        return _scatter(patches, image_shape, stride, padding), of_weight, None, None, None


def _columns(images: Tensor, side: int, stride: int, padding: int, size: tuple[int, int]) -> Tensor:
    """Lay out what each output pixel sees, [N, C, H, W] → [N * h * w, s * s * C]."""
    rows = pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    n, y, x, c = rows.stride()
    shape = (len(images), *size, side, side, images.shape[1])
    strided = rows.as_strided(shape, (n, stride * y, stride * x, y, x, c))
    return strided.reshape(-1, side * side * images.shape[1])


def _scatter(patches: Tensor, image_shape: torch.Size, stride: int, padding: int) -> Tensor:
    """Add up what each input pixel was seen as, [N, h, w, s, s, C] → [N, C, H, W]."""
    n, c, height, width = image_shape
    _, h, w, side, _, _ = patches.shape
    padded = patches.new_zeros(n, height + 2 * padding, width + 2 * padding, c)
    for i in range(side):
        for j in range(side):
            rows = slice(i, i + stride * (h - 1) + 1, stride)
            columns = slice(j, j + stride * (w - 1) + 1, stride)
            padded[:, rows, columns] += patches[:, :, :, i, j]
    inner = padded[:, padding : padding + height, padding : padding + width]
    return inner.permute(0, 3, 1, 2)
