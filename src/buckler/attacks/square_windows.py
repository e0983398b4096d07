"""What Square paints: windows of an image, and the patterns of one sign that fill them.

All proposals are (where, values), both (n, m): flat places of a row and what stands there next.
A place that two windows share occurs twice, with the same value.
"""

import math

import torch
from torch import Tensor

from buckler.threats import LpBall
from buckler.threats.lp import per_row

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 windows

Image = tuple[int, int, int]  # channels, rows, columns


def as_image(shape: tuple[int, ...]) -> Image:
    """(h, w) has one channel; a shape that is no image is one line of pixels."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return (1, shape[0], shape[1]) if len(shape) == 2 else (1, 1, math.prod(shape))


def share(p: float, at: float) -> float:
    """The share of the pixels in window number `at` of 10,000."""
    return float(p / 2 ** sum(at > halving for halving in _HALVINGS))


def sides(image: Image, part: float, least: int = 1) -> tuple[int, int]:
    """Rows and columns of a window of that share of the pixels: a square, if the image is as tall
    and as wide; else the other side makes up. With least = 3 the square's side is odd."""
    _, h, w = image
    side = max(least, round(math.sqrt(part * h * w)))
    side += least > 1 and side % 2 == 0
    tall, wide = min(h, side), min(w, side)
    if tall < side:
        wide = min(w, max(1, round(side * side / tall)))
    elif wide < side:
        tall = min(h, max(1, round(side * side / wide)))
    return tall, wide


def corners(u: Tensor, image: Image, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Top and left (n,) from u (n, 2) in [0, 1): all places where the window fits, the last too."""
    return tuple(  # type: ignore[return-value]
        (u[:, i] * (image[1 + i] - size[i] + 1)).long().clamp_max(image[1 + i] - size[i])
        for i in range(2)
    )


def places(top: Tensor, left: Tensor, image: Image, size: tuple[int, int]) -> Tensor:
    """(n, channels, tall · wide): flat places of each row's window."""
    channels, h, w = image
    down, across = (torch.arange(side, device=top.device) for side in size)
    window = (down[:, None] * w + across).flatten()
    of_channel = torch.arange(channels, device=top.device) * (h * w)
    return (top * w + left)[:, None, None] + of_channel[:, None] + window


def stripes(x: Tensor, signs: Tensor, image: Image, threat: LpBall) -> Tensor:
    """The first point for L∞: x ± eps, one sign (n, c·w) a column and channel."""
    c, h, w = image
    every = signs.reshape(-1, c, 1, w).expand(-1, c, h, w).reshape(len(x), -1)
    return _shifted(x.flatten(1), every, threat)


def flips(
    x: Tensor, point: Tensor, u: Tensor, size: tuple[int, int], image: Image, threat: LpBall
) -> tuple[Tensor, Tensor]:
    """L∞: a window at x ± eps, one sign a channel. u (n, 2 + c).

    Where that changes nothing, the signs are turned over: no query is spent on a point again.
    """
    where = places(*corners(u, image, size), image, size)
    spread, flat = where.shape, where.flatten(1)
    x, old = x.flatten(1).gather(1, flat), point.gather(1, flat)
    signs = torch.where(u[:, 2:] < 0.5, -1.0, 1.0).to(x)[:, :, None]
    same = (_shifted(x, signs.expand(spread), threat) == old).all(1)
    signs = torch.where(same[:, None, None], -signs, signs)
    return flat, _shifted(x, signs.expand(spread), threat)


def _shifted(x: Tensor, signs: Tensor, threat: LpBall) -> Tensor:
    return torch.addcmul(x, signs.reshape(x.shape), per_row(threat.eps, x)).clamp_(*threat.box)
