"""A printed square that the world shows at a random place, size, angle, tilt and light."""

import math
from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal
from buckler.threats.images import Box, as_image, check_box, from_middle
from buckler.threats.patch import Patch

_LEAST = 4  # texels along a side
_FAR = 3.0  # texture coordinates beyond this are nowhere near the square [-1, 1]²


@dataclass(frozen=True)
class Sticker:
    """The attacker prints one square texture; where and how it is seen, the world decides.

    What the attacker chooses is the texture, so membership of a single picture cannot be read
    from its pixels. `contains` asks what every view satisfies: the box, and that all changed
    pixels lie in one square as large as the largest view. The figure that counts is the share of
    fresh views that win (`buckler.attacks.sticker.sticker_success`).

    Args:
        size: side of the sticker as a share of the image's shorter side.
        scale: least and largest factor on the size.
        rotation: up to ±degrees in the image plane.
        perspective: up to ± this tilt of the sticker's plane, at most 0.25 (0: seen head-on).
        brightness: up to ± this share of the box's width is added.
        contrast: factor from 1/contrast to contrast about the middle of the box.
        down, across: range of the place; 0 touches the top (left) edge, 1 the bottom (right) one.
    """

    size: float = 0.3
    scale: tuple[float, float] = (0.8, 1.2)
    rotation: float = 20.0
    perspective: float = 0.1
    brightness: float = 0.1
    contrast: float = 1.2
    down: tuple[float, float] = (0.0, 1.0)
    across: tuple[float, float] = (0.0, 1.0)
    box: Box = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        check_box(self.box)
        least, most = self.scale
        if not (0 < least <= most and 0 < self.size * most <= 1):
            raise UsageError(
                "the sticker must fit into the image: 0 < scale[0] <= scale[1] and "
                f"0 < size x scale[1] <= 1. Got size={self.size}, scale={self.scale}"
            )
        if not (0 <= self.rotation <= 180 and 0 <= self.perspective <= 0.25):
            raise UsageError(
                "rotation must be in [0, 180] degrees and perspective in [0, 0.25]. "
                f"Got rotation={self.rotation}, perspective={self.perspective}"
            )
        if not (0 <= self.brightness <= 1 and 1 <= self.contrast < math.inf):
            raise UsageError(
                "brightness must be in [0, 1] and contrast at least 1. "
                f"Got brightness={self.brightness}, contrast={self.contrast}"
            )
        for first, last in (self.down, self.across):
            if not 0 <= first <= last <= 1:
                raise UsageError(
                    "down and across must be ranges inside [0, 1]. "
                    f"Got down={self.down}, across={self.across}"
                )

    def __str__(self) -> str:
        return f"sticker of {self.size:.3g} of the shorter side"

    def poses(self, seed: int, rows: Tensor, draw: int, views: int) -> Tensor:
        """(n, views, 8) in [-1, 1): what the world decides, keyed by (seed, row, draw)."""
        return 2 * draws.uniform(draws.derive(seed, "pose"), rows, draw, (views, 8)) - 1

    def show(self, x: Tensor, texture: Tensor, poses: Tensor) -> Tensor:
        """x with the texture stuck on in these poses (n, 8); differentiable in the texture.

        Args:
            texture: (n, c, t, t) with t >= 4, or (1, c, t, t) for all rows, inside the box.

        Returns: x's shape, inside the box.
        """
        low, high = self.box
        image = as_image(x)
        n, channels = image.shape[:2]
        side = texture.shape[-1]
        if (
            texture.shape[1:] != (channels, side, side)
            or side < _LEAST
            or len(texture) not in (1, n)
        ):
            raise UsageError(
                f"a texture for {n} rows must have the shape (1 or {n}, {channels}, t, t), t >= 4. "
                f"Got {tuple(texture.shape)}"
            )
        if not n:
            return x.clone()
        u = poses.to(x)
        factor = (self.contrast ** u[:, 6])[:, None, None, None]
        shift = (self.brightness * (high - low) * u[:, 7])[:, None, None, None]
        middle = (low + high) / 2
        lit = ((texture - middle) * factor + middle + shift).clamp(low, high)
        lit = lit.expand(n, -1, -1, -1)
        opaque = torch.cat([lit, torch.ones_like(lit[:, :1])], 1)
        fine = max(1, int(side / self._sides(x)[0]))  # else a texture finer than the view aliases
        seen = functional.grid_sample(opaque, self._grid(image, u, fine), align_corners=False)
        seen = functional.avg_pool2d(seen, fine)
        # Outside the square the texture and its opacity fade together: a convex combination.
        shown = image * (1 - seen[:, -1:]) + seen[:, :-1]
        untouched = (seen[:, -1:] == 0).expand_as(image)
        return torch.where(untouched, image, shown.clamp(low, high)).reshape(x.shape)

    def _sides(self, x: Tensor) -> tuple[float, float]:
        """Side of the sticker in its smallest and in its largest view, seen head-on, in pixels."""
        side = self.size * min(as_image(x).shape[2:])
        return side * self.scale[0], side * self.scale[1]

    def texels(self, x: Tensor) -> int:
        """Side of the texture that the largest view can show: a finer one is wasted."""
        return max(_LEAST, math.ceil(self._sides(x)[1]))

    def _grid(self, image: Tensor, u: Tensor, fine: int) -> Tensor:
        """(n, fine·h, fine·w, 2) texture coordinates of every pixel's parts, in the poses u."""
        high, wide = image.shape[2:]
        middle, spread = (self.scale[1] + self.scale[0]) / 2, (self.scale[1] - self.scale[0]) / 2
        each = u[:, :, None, None]
        side = min(high, wide) * self.size * (middle + spread * each[:, 0])
        below, beside = from_middle(image, fine)
        below = below - (_within(each[:, 1], self.down) - 0.5) * (high - side)
        beside = beside - (_within(each[:, 2], self.across) - 0.5) * (wide - side)
        angle = math.radians(self.rotation) * each[:, 3]
        cos, sin = 2 * torch.cos(angle) / side, 2 * torch.sin(angle) / side
        right, down = cos * beside + sin * below, cos * below - sin * beside
        # A tilted plane: points of the square have depth 1 / (1 − tilt·point) > 0.
        tilt = self.perspective * each[:, 4:6]
        depth = 1 + tilt[:, 0] * right + tilt[:, 1] * down
        depth = torch.where(depth > 1e-3, depth, 1e-3)
        return torch.stack([right / depth, down / depth], -1).clamp(-_FAR, _FAR)

    def reach(self, x: Tensor) -> Patch:
        """The square that holds every view of the sticker, as a threat of its own."""
        high, wide = as_image(x).shape[2:]
        edge = 1 + 1 / _LEAST  # the square fades out over half a texel
        turn = math.radians(min(self.rotation, 45))
        widest = edge * (math.cos(turn) + math.sin(turn)) / (1 - 2 * self.perspective * edge)
        side = math.ceil(self._sides(x)[1] * widest) + 1
        return Patch((min(side, high), min(side, wide)), box=self.box, goal=self.goal)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) area in pixels of the smallest rectangle that holds every changed pixel."""
        return self.reach(x).distance(x, x_adv)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: what every view satisfies; not every picture that passes is a view."""
        return self.reach(x).contains(x, x_adv)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The nearest point that `contains` accepts."""
        return self.reach(x).project(x, x_adv)

    def steepest(self, grad: Tensor) -> Tensor:
        """Full steps in the square where a linear function with this gradient rises most."""
        return self.reach(grad).steepest(grad)

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """A view of a sticker of random values, 8 x 8 of them."""
        low, high = self.box
        shape = (as_image(x).shape[1], 8, 8)
        values = draws.uniform(draws.derive(seed, "texture"), rows, step, shape).to(x)
        texture = (low + (high - low) * values).clamp(low, high)
        return self.show(x, texture, self.poses(seed, rows, step, 1)[:, 0])

    def take(self, idx: Tensor | slice) -> Self:
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with a sticker over the shorter side, always seen head-on."""
        return replace(
            self,
            size=1.0,
            scale=(1.0, 1.0),
            rotation=0.0,
            perspective=0.0,
            brightness=0.0,
            contrast=1.0,
        )

    def to_dict(self) -> dict[str, object]:
        return {
            "kind": "sticker",
            "size": self.size,
            "scale": list(self.scale),
            "rotation": self.rotation,
            "perspective": self.perspective,
            "brightness": self.brightness,
            "contrast": self.contrast,
            "down": list(self.down),
            "across": list(self.across),
            "goal": self.goal.kind,
        }


def _within(u: Tensor, ends: tuple[float, float]) -> Tensor:
    """u in [-1, 1) stretched to the range."""
    return ends[0] + (ends[1] - ends[0]) * (u + 1) / 2
