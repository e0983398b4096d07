"""Small random shifts of images: what a digit is does not depend on where it stands."""

import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.errors import UsageError


def shifted(x: Tensor, pixels: int, seed: int, rows: Tensor) -> Tensor:
    """x (n, c, h, w) moved by up to `pixels` in each direction, edges replicated."""
    if not pixels:
        return x
    if x.ndim != 4:
        raise UsageError(f"shifts are for images (n, c, h, w). Got {tuple(x.shape)}: set shift = 0")
    n, channels, height, width = x.shape
    padded = functional.pad(x, (pixels,) * 4, mode="replicate")
    move = draws.integers(seed, rows, 0, (2,), 2 * pixels + 1)
    down = (move[:, :1] + torch.arange(height))[:, None, :, None]
    across = (move[:, 1:] + torch.arange(width))[:, None, None, :]
    row, channel = torch.arange(n)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[row, channel, down, across]
