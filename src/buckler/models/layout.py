"""How a foreign model lays out one input, told from its shape and ours."""

import math
from typing import Literal

from torch import Tensor

from buckler.errors import UsageError

Layout = Literal["as it is", "channels last", "no channel", "flat"]
Shape = tuple[int | None, ...]
"""Of one input, without the batch; None: any size."""


def layout(expected: Shape, shape: tuple[int, ...], *, first: bool) -> Layout:
    """How inputs of our `shape`, (c, h, w) or (d,), must be turned for a model of `expected`.

    Args:
        first: whether channels come first where both orders fit (ONNX, V2), or nobody knows
            (Keras).

    Raises: UsageError if nothing fits, or several do.
    """
    image = len(shape) == 3
    fits: list[Layout] = ["as it is"] if _fits(expected, shape) else []
    if image:
        c, h, w = shape
        if _fits(expected, (h, w, c)):
            fits.append("channels last")
        if c == 1 and _fits(expected, (h, w)):
            fits.append("no channel")
    if len(shape) > 1 and len(expected) == 1 and _fits(expected, (math.prod(shape),)):
        fits.append("flat")
    if not fits:
        raise UsageError(
            f"the model takes inputs of shape {_show(expected)}, and the data have {shape}: "
            "give it the data it was trained on, or convert it for this shape"
        )
    flat_colours = fits == ["flat"] and image and shape[0] > 1
    if not first and (len(fits) > 1 or flat_colours):
        raise UsageError(
            f"the model takes inputs of shape {_show(expected)}, and data of shape {shape} fit "
            "with their channels first or last: save the model with an Input of full shape, "
            "channels last and of different sizes (or as ONNX)"
        )
    return fits[0]


def arrange(x: Tensor, how: Layout) -> Tensor:
    """x (n, *shape) as the model takes it; differentiable."""
    if how == "channels last":
        return x.permute(0, 2, 3, 1).contiguous()
    if how == "no channel":
        return x[:, 0]
    return x.flatten(1) if how == "flat" else x


def _fits(expected: Shape, shape: tuple[int, ...]) -> bool:
    return len(expected) == len(shape) and all(
        want in (None, got) for want, got in zip(expected, shape, strict=True)
    )


def _show(shape: Shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
