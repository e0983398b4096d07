"""One rectangle of the image, set to anything inside the box."""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal
from buckler.threats.images import Box, as_image, check_box, in_box


@dataclass(frozen=True)
class Patch:
    """The attacker may set one axis-aligned rectangle of pixels to any values inside the box.

    Args:
        size: (height, width) in pixels, or the share of the image's area in (0, 1]; a share keeps
            the image's own proportions.
        place: (top, left) in pixels where the rectangle must lie; None: anywhere.
    """

    size: tuple[int, int] | float
    place: tuple[int, int] | None = None
    box: Box = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        check_box(self.box)
        if isinstance(self.size, tuple):
            if len(self.size) != 2 or min(self.size) < 1:
                raise UsageError(f"size must be (height, width) in pixels, >= 1. Got {self.size}")
        elif not 0 < self.size <= 1:
            raise UsageError(f"size as a share of the image must be in (0, 1]. Got {self.size}")
        if self.place is not None and (len(self.place) != 2 or min(self.place) < 0):
            raise UsageError(f"place must be (top, left) in pixels, >= 0. Got {self.place}")

    def __str__(self) -> str:
        if isinstance(self.size, tuple):
            return f"patch of {self.size[0]} x {self.size[1]} pixels"
        return f"patch of {self.size:.3g} of the image"

    def window(self, x: Tensor) -> tuple[int, int]:
        """(height, width) of the rectangle on images like x, in pixels."""
        high, wide = as_image(x).shape[2:]
        if isinstance(self.size, tuple):
            tall, broad = self.size
        else:
            # Rounded down, so that the share is never exceeded; one pixel is the least.
            tall, broad = (max(1, int(self.size**0.5 * side + 1e-9)) for side in (high, wide))
        top, left = self.place or (0, 0)
        if top + tall > high or left + broad > wide:
            raise UsageError(
                f"the patch must lie inside the image of {high} x {wide} pixels. "
                f"Got {tall} x {broad} pixels at ({top}, {left})"
            )
        return tall, broad

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) area in pixels of the smallest rectangle that holds every changed pixel."""
        tall, broad, _, _ = _extent(_changed(x, x_adv))
        return (tall * broad).to(x.dtype)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: all changed pixels lie in one such rectangle, and all inside the box."""
        window = self.window(x)
        tall, broad, top, left = _extent(_changed(x, x_adv))
        inside = in_box(x_adv, self.box) & (tall <= window[0]) & (broad <= window[1])
        if self.place is None:
            return inside
        above, before = (top < self.place[0]), (left < self.place[1])
        below = top + tall > self.place[0] + window[0]
        after = left + broad > self.place[1] + window[1]
        return inside & ((tall == 0) | ~(above | before | below | after))

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The nearest point: the rectangle in which the changes count most, the rest undone."""
        asked, clipped = as_image(x_adv), as_image(x_adv).clamp(*self.box)
        gain = ((asked - as_image(x)).square() - (asked - clipped).square()).sum(1)
        mask = self.mask(x, self.best_corner(gain))
        return torch.where(mask, clipped, as_image(x)).reshape(x.shape)

    def steepest(self, grad: Tensor) -> Tensor:
        """Full steps in the rectangle where a linear function with this gradient rises most."""
        image = as_image(grad)
        mask = self.mask(grad, self.best_corner(image.abs().sum(1)))
        return torch.where(mask, image.sign(), torch.zeros_like(image)).reshape(grad.shape)

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """A rectangle at a random place, filled with random values inside the box."""
        low, high = self.box
        image = as_image(x)
        values = draws.uniform(draws.derive(seed, "values"), rows, step, tuple(image.shape[1:]))
        values = (low + (high - low) * values.to(x)).clamp(low, high)
        mask = self.mask(x, self.random_corner(x, seed, rows, step))
        return torch.where(mask, values, image).reshape(x.shape)

    def best_corner(self, gain: Tensor) -> Tensor:
        """(n, 2) top and left of the rectangle with the largest sum of gain (n, h, w)."""
        if self.place is not None:
            return torch.tensor(self.place, device=gain.device).expand(len(gain), 2)
        sums = window_sums(gain, self.window(gain))
        if not len(gain):
            return torch.zeros(0, 2, dtype=torch.int64, device=gain.device)
        at = sums.flatten(1).argmax(1)
        across = sums.shape[2]
        return torch.stack([at.div(across, rounding_mode="floor"), at % across], 1)

    def random_corner(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """(n, 2) top and left of a rectangle at a random place."""
        if self.place is not None:
            return torch.tensor(self.place, device=x.device).expand(len(rows), 2)
        tall, broad = self.window(x)
        high, wide = as_image(x).shape[2:]
        u = draws.uniform(draws.derive(seed, "corner"), rows, step, (2,))
        room = torch.tensor([high - tall + 1, wide - broad + 1], device=u.device)
        return (u * room).long()

    def mask(self, x: Tensor, corner: Tensor) -> Tensor:
        """(n, 1, h, w) bool: the rectangles with these corners (n, 2)."""
        tall, broad = self.window(x)
        high, wide = as_image(x).shape[2:]
        down = torch.arange(high, device=x.device) - corner[:, :1]
        across = torch.arange(wide, device=x.device) - corner[:, 1:]
        in_rows, in_columns = (down >= 0) & (down < tall), (across >= 0) & (across < broad)
        return (in_rows[:, :, None] & in_columns[:, None, :])[:, None]

    def take(self, idx: Tensor | slice) -> Self:
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with a rectangle that covers the whole image."""
        high, wide = as_image(x).shape[2:]
        return replace(self, size=(int(high), int(wide)), place=None)

    def to_dict(self) -> dict[str, object]:
        size = list(self.size) if isinstance(self.size, tuple) else self.size
        place = None if self.place is None else list(self.place)
        return {"kind": "patch", "size": size, "place": place, "goal": self.goal.kind}


def window_sums(values: Tensor, window: tuple[int, int]) -> Tensor:
    """(n, h − tall + 1, w − broad + 1): the sum of values (n, h, w) in every window."""
    if not len(values):
        high, wide = values.shape[1] - window[0] + 1, values.shape[2] - window[1] + 1
        return values.new_zeros((0, high, wide))
    return functional.avg_pool2d(values[:, None], window, stride=1, divisor_override=1)[:, 0]


def _changed(x: Tensor, x_adv: Tensor) -> Tensor:
    return (as_image(x_adv) != as_image(x)).any(1)


def _extent(changed: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Height, width, top and left (n,) of the smallest rectangle around what is true (n, h, w)."""
    spans, firsts = [], []
    for line in (changed.any(2), changed.any(1)):
        size = line.shape[1]
        at = torch.arange(size, device=line.device).expand_as(line)
        first = torch.where(line, at, size).amin(1)
        last = torch.where(line, at, -1).amax(1)
        spans.append((last - first + 1).clamp_min(0))
        firsts.append(first)
    return spans[0], spans[1], firsts[0], firsts[1]
