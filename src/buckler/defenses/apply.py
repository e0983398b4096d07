"""Run a transform: the deployed forward, the surrogate's backward, the shape kept."""

import torch
from torch import Tensor

from buckler.defenses.jpeg import JPEG
from buckler.defenses.noise import GaussianNoise
from buckler.errors import UsageError
from buckler.inputs import straight_through
from buckler.protocols import Defense


def apply(defense: Defense, x: Tensor, keys: Tensor | None = None) -> Tensor:
    """The deployed transform of x; where x wants gradients, they pass through the surrogate."""
    if defense.surrogate is None or not x.requires_grad:
        return defense(x, keys)
    with torch.no_grad():
        hard = defense(x.detach(), keys)
    return straight_through(defense.surrogate(x), hard)


def check_transform(
    defense: Defense, x: Tensor, box: tuple[float, float], deep: bool = False
) -> None:
    """Raises: UsageError naming the transform if it changes shape, dtype or range of x (n, ...),
    or rounds images of more than 8 bits (deep) to 8."""
    if deep and isinstance(defense, JPEG):
        raise UsageError(
            f"the transform {defense.name!r} rounds to 8 bits, and these images have more: leave "
            "it out"
        )
    if box != (0.0, 1.0) and isinstance(defense, (JPEG, GaussianNoise)):
        raise UsageError(
            f"the transform {defense.name!r} is for pixels in [0, 1]. Got the box {box}: leave it "
            "out, or scale the inputs"
        )
    keys = torch.arange(len(x))
    out = defense(x, keys)
    if out.shape != x.shape:
        raise UsageError(
            f"the transform {defense.name!r} changes the shape of its input from "
            f"{tuple(x.shape)} to {tuple(out.shape)}: a guard's transforms must keep it"
        )
    if out.dtype != x.dtype:
        raise UsageError(
            f"the transform {defense.name!r} changes the dtype from {x.dtype} to {out.dtype}"
        )
    low, high = box
    if not bool((torch.isfinite(out) & (out >= low) & (out <= high)).all()):
        raise UsageError(
            f"the transform {defense.name!r} leaves the range [{low:g}, {high:g}]. "
            f"Got values from {float(out.min()):.4g} to {float(out.max()):.4g}"
        )
