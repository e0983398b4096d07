"""Hue, saturation, brightness, contrast and gamma of the whole image."""

import math
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal
from buckler.threats.images import Box, as_image, check_box, in_box, pixel_l2

_TINY = 1e-6  # of the box's width: below it a value is black, whatever gamma is


@dataclass(frozen=True)
class Colour:
    """The attacker may change a few numbers that act on every pixel alike.

    (In the spirit of Hosseini and Poovendran 2018, arXiv:1804.00499, with a few parameters more.)
    Images of other than 3 channels have no hue and no saturation. `contains` asks what every
    setting satisfies: the box, and that pixels which are equal in x are equal in x_adv (brighter
    stays no darker for 1 channel); attacks are inside because they only return `transform(x, ...)`.

    Args:
        hue: up to ±degrees around the grey axis of the colour cube.
        saturation, contrast, gamma: a factor (power, for gamma) from 1/value to value.
        brightness: up to ± this share of the box's width is added.
    """

    hue: float = 30.0
    saturation: float = 1.5
    brightness: float = 0.1
    contrast: float = 1.5
    gamma: float = 1.5
    box: Box = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        check_box(self.box)
        if not (0 <= self.hue <= 180 and 0 <= self.brightness <= 1):
            raise UsageError(
                "hue must be in [0, 180] degrees and brightness in [0, 1], a share of the box. "
                f"Got hue={self.hue}, brightness={self.brightness}"
            )
        if not all(1 <= v < math.inf for v in (self.saturation, self.contrast, self.gamma)):
            raise UsageError(
                "saturation, contrast and gamma must be at least 1: the factor goes from 1/value "
                f"to value. Got {self.saturation}, {self.contrast}, {self.gamma}"
            )

    def __str__(self) -> str:
        return (
            f"hue {self.hue:g}°, saturation {self.saturation:g}, brightness {self.brightness:g}, "
            f"contrast {self.contrast:g}, gamma {self.gamma:g}"
        )

    @property
    def free(self) -> tuple[bool, ...]:
        """Which of the parameters move anything."""
        factors = (self.contrast > 1, self.gamma > 1)
        return (self.hue > 0, self.saturation > 1, self.brightness > 0, *factors)

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """x with gamma, then hue, saturation, contrast and brightness changed.

        Differentiable in both. Each stage adds a change that is exactly zero at parameter zero,
        so that zero is the identity, bit for bit, and has a gradient.

        Args:
            params: (n, 5) in [-1, 1]: hue, saturation, brightness, contrast, gamma.

        Returns: x's shape, inside the box.
        """
        low, high = self.box
        width = high - low
        hue, saturation, brightness, contrast, gamma = (
            p[:, None, None, None] for p in params.to(x).unbind(1)
        )
        out = as_image(x)
        unit = ((out - low) / width).clamp(0, 1)
        power = torch.exp(math.log(self.gamma) * gamma) - 1
        out = out + width * unit * torch.expm1(power * unit.clamp_min(_TINY).log())
        if out.shape[1] == 3:
            angle = math.radians(self.hue) * hue
            out = out + _turn(out, angle)
            grey = out.mean(1, keepdim=True)
            out = out + (out - grey) * torch.expm1(math.log(self.saturation) * saturation)
        middle = (low + high) / 2
        out = out + (out - middle) * torch.expm1(math.log(self.contrast) * contrast)
        out = out + self.brightness * width * brightness
        return out.clamp(low, high).reshape(x.shape)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) L2 distance of the pixels, input units: the parameters are not kept."""
        return pixel_l2(x, x_adv)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: what every setting satisfies; not every picture that passes is one."""
        inside = in_box(x_adv, self.box)
        before, after = as_image(x), as_image(x_adv)
        if before.shape[1] != 1 or not len(x):
            return inside
        values, order = before.flatten(1).sort(1)
        steps = after.flatten(1).gather(1, order).diff(dim=1)
        slack = 1e-5 * (self.box[1] - self.box[0])
        equal = values.diff(dim=1) == 0
        rising = (steps >= -slack) & (~equal | (steps <= slack))
        return inside & rising.all(1)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Raises: UsageError: the nearest setting is a search of its own."""
        raise UsageError(f"{self} has no projection: attack it with ColourShift, not pixel steps")

    def steepest(self, grad: Tensor) -> Tensor:
        """Raises: UsageError: a gradient over pixels names no setting."""
        raise UsageError(f"{self} has no steepest step: attack it with ColourShift")

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """x under parameters drawn uniformly from their ranges."""
        return self.transform(x, 2 * draws.uniform(seed, rows, step, (5,)) - 1)

    def take(self, idx: Tensor | slice) -> Self:
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with every hue and factors of a hundred."""
        return replace(
            self, hue=180.0, saturation=100.0, brightness=1.0, contrast=100.0, gamma=100.0
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "kind": "colour",
            "hue": self.hue,
            "saturation": self.saturation,
            "brightness": self.brightness,
            "contrast": self.contrast,
            "gamma": self.gamma,
            "goal": self.goal.kind,
        }


def _turn(rgb: Tensor, angle: Tensor) -> Tensor:
    """What a turn by `angle` (n, 1, 1, 1) about the grey axis adds to rgb (Rodrigues' formula)."""
    grey = rgb.mean(1, keepdim=True)
    across = rgb.roll(1, 1) - rgb.roll(-1, 1)  # √3 times the axis × rgb, exactly zero for greys
    half = torch.sin(angle / 2)
    return -2 * half.square() * (rgb - grey) + torch.sin(angle) * across / math.sqrt(3)
