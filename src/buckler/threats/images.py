"""What threats on images share: how an input is read as one, and what every box asks."""

import torch
from torch import Tensor
from torch.nn import functional

from buckler.errors import UsageError

Box = tuple[float, float]


def as_image(x: Tensor) -> Tensor:
    """x as (n, c, h, w); (n, h, w) has one channel.

    Raises: UsageError for inputs without height and width.
    """
    if x.ndim == 4:
        return x
    if x.ndim == 3:
        return x[:, None]
    raise UsageError(
        f"this threat needs images, (n, c, h, w) or (n, h, w). Got the shape {tuple(x.shape)}"
    )


def in_box(x_adv: Tensor, box: Box) -> Tensor:
    """(n,) bool: every value is finite and inside the box."""
    low, high = box
    flat = x_adv.flatten(1)
    return (torch.isfinite(flat) & (flat >= low) & (flat <= high)).all(1)


def check_box(box: Box) -> None:
    """Raises: UsageError if the box is empty."""
    if not box[0] < box[1]:
        raise UsageError(f"box must be (low, high) with low < high. Got {box}")


def pixel_l2(x: Tensor, x_adv: Tensor) -> Tensor:
    """(n,) L2 distance in input units, for threats whose own measure pixels do not show."""
    length: Tensor = torch.linalg.vector_norm((x_adv - x).flatten(1), dim=1)
    return length


def from_middle(image: Tensor, fine: int = 1) -> tuple[Tensor, Tensor]:
    """How far each pixel of (n, c, h, w) lies below (h, 1) and right of (1, w) the middle.

    Args:
        fine: every pixel as this many parts along each side.
    """
    high, wide = (fine * side for side in image.shape[2:])
    down = torch.arange(high, device=image.device).to(image.dtype)
    right = torch.arange(wide, device=image.device).to(image.dtype)
    return (down - (high - 1) / 2)[:, None] / fine, (right - (wide - 1) / 2)[None, :] / fine


def pick(image: Tensor, down: Tensor, right: Tensor, padding: str = "border") -> Tensor:
    """(n, c, h, w): at each pixel the image's value at (down, right), both (n, h, w) pixels from
    the middle, bilinearly."""
    high, wide = image.shape[2:]
    grid = torch.stack([right * 2 / wide, down * 2 / high], -1)
    return functional.grid_sample(image, grid, padding_mode=padding, align_corners=False)
