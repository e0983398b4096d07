"""A convolution of few channels whose gradient with respect to its input costs less."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW = 4  # input channels up to which this pays on a CPU


def untouched(part: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether this is a layer of that kind, not of one derived from it (its forward or weights may
    be others), and without hooks."""
    hooks = (part._forward_pre_hooks, part._forward_hooks, part._backward_hooks)
    return type(part) is kind and not any(hooks)


def fits(part: nn.Module) -> bool:
    """Whether this is a plain convolution of an image's few channels."""
    return (
        isinstance(part, nn.Conv2d)
        and untouched(part, nn.Conv2d)
        and part.in_channels <= FEW
        and part.groups == 1
        and part.dilation == (1, 1)
        and part.padding_mode == "zeros"
        and not isinstance(part.padding, str)
    )


class InputConv(nn.Module):
    """The same convolution with frozen weights; backward is one product and k·k shifted sums.

    The usual backward is laid out for many channels: for one or three it takes 2 to 7 times as
    long, and is a third of a small net's gradient.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor) -> Tensor:
        part = self.convolution
        out: Tensor = _Convolve.apply(  # type: ignore[no-untyped-call]
            x, part.weight, part.bias, part.stride, part.padding
        )
        return out


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, x.shape[2:]
        return F.conv2d(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (weight,), (grad,) = ctx.saved_tensors, grads
        (down, across), (top, left), (height, width) = ctx.stride, ctx.padding, ctx.size
        outputs, channels, tall, wide = weight.shape
        n, _, rows, columns = grad.shape
        taps = weight.permute(2, 3, 1, 0).reshape(-1, outputs) @ grad.flatten(2)
        taps = taps.view(n, tall, wide, channels, rows, columns)
        out = taps.new_zeros(n, channels, height + 2 * top + down, width + 2 * left + across)
        for i in range(tall):
            for j in range(wide):
                here = (
                    slice(i, i + down * rows, down),
                    slice(j, j + across * columns, across),
                )
                out[:, :, here[0], here[1]] += taps[:, i, j]
        return out[:, :, top : top + height, left : left + width], None, None, None, None
