"""The whole image turned, shifted and scaled."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal
from buckler.threats.images import Box, as_image, check_box, from_middle, in_box, pick, pixel_l2


@dataclass(frozen=True)
class Spatial:
    """The attacker may rotate, shift and scale the image (Engstrom et al. 2019, arXiv:1712.02779).

    Which transform made a picture cannot be read from its pixels cheaply, so `contains` asks what
    every transform satisfies: the box, and no value beyond those of the image and the fill.
    Attacks of this threat are inside it because they only ever return `transform(x, ...)`.

    Args:
        rotation: up to ±degrees, counter-clockwise is positive.
        translation: up to ± this share of the height and of the width.
        scale: least and largest factor, least <= 1 <= largest.
        fill: the value beyond the border, or "edge": the border's own values go on.
    """

    rotation: float = 30.0
    translation: float = 0.1
    scale: tuple[float, float] = (1.0, 1.0)
    fill: float | Literal["edge"] = 0.0
    box: Box = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        check_box(self.box)
        if not (0 <= self.rotation <= 180 and 0 <= self.translation <= 1):
            raise UsageError(
                "rotation must be in [0, 180] degrees and translation in [0, 1], a share of the "
                f"image. Got rotation={self.rotation}, translation={self.translation}"
            )
        if not 0 < self.scale[0] <= 1 <= self.scale[1] < math.inf:
            raise UsageError(
                f"scale must be (least, largest) with 0 < least <= 1 <= largest. Got {self.scale}"
            )
        if self.fill != "edge" and not self.box[0] <= float(self.fill) <= self.box[1]:
            raise UsageError(
                f"fill must be 'edge' or a value inside the box {self.box}. Got {self.fill!r}"
            )

    def __str__(self) -> str:
        low, high = self.scale
        return f"rotation {self.rotation:g}°, shift {self.translation:g}, scale {low:g} to {high:g}"

    @property
    def free(self) -> tuple[bool, ...]:
        """Which of the parameters move anything."""
        shifts = self.translation > 0
        return (self.rotation > 0, shifts, shifts, self.scale != (1.0, 1.0))

    def transform(self, x: Tensor, params: Tensor) -> Tensor:
        """x turned by rotation·p0, shifted by translation·p1 (down) and ·p2 (right), and scaled.

        Args:
            params: (n, 4) in [-1, 1]; p3 > 0 enlarges, up to the largest scale, p3 < 0 shrinks.
                Zero is the identity, bit for bit.

        Returns: x's shape, bilinear, inside the box.
        """
        image = as_image(x)
        if not len(x):
            return x.clone()
        params = params.to(x)
        edge = self.fill == "edge"
        offset = 0.0 if edge else float(self.fill)
        mode = "border" if edge else "zeros"
        moved = pick(image - offset, *self._sources(image, params), mode)
        least, most = self._values(image)
        moved = (moved + offset).clamp(least, most).clamp(*self.box)
        still = (params == 0).all(1).reshape(-1, 1, 1, 1)
        return torch.where(still, image, moved).reshape(x.shape)

    def _sources(self, image: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """From where, down and right of the middle, each pixel is taken: (n, h, w) each."""
        high, wide = image.shape[2:]
        each = params[:, :, None, None]
        angle = math.radians(self.rotation) * each[:, 0]
        grow = each[:, 3]
        factor = torch.where(grow > 0, self.scale[1] ** grow, self.scale[0] ** -grow)
        cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
        down, right = from_middle(image)
        down = down - self.translation * high * each[:, 1]
        right = right - self.translation * wide * each[:, 2]
        return sin * right + cos * down, cos * right - sin * down

    def _values(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """(n, c, 1, 1) least and largest value that a transform can show."""
        least, most = image.detach().amin((2, 3), True), image.detach().amax((2, 3), True)
        if self.fill != "edge":
            least, most = least.clamp_max(float(self.fill)), most.clamp_min(float(self.fill))
        return least, most

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) L2 distance of the pixels, input units: the parameters are not kept."""
        return pixel_l2(x, x_adv)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: what every transform satisfies; not every picture that passes is one."""
        least, most = self._values(as_image(x))
        image = as_image(x_adv)
        return in_box(x_adv, self.box) & ((image >= least) & (image <= most)).flatten(1).all(1)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """Raises: UsageError: the nearest transform of x is a search of its own."""
        raise UsageError(f"{self} has no projection: attack it with WorstOfK, not by pixel steps")

    def steepest(self, grad: Tensor) -> Tensor:
        """Raises: UsageError: a gradient over pixels names no transform."""
        raise UsageError(f"{self} has no steepest step: attack it with WorstOfK")

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """x under parameters drawn uniformly from their ranges."""
        return self.transform(x, 2 * draws.uniform(seed, rows, step, (4,)) - 1)

    def take(self, idx: Tensor | slice) -> Self:
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with every turn, every shift, and scales from a tenth to tenfold."""
        return replace(self, rotation=180.0, translation=1.0, scale=(0.1, 10.0))

    def to_dict(self) -> dict[str, object]:
        return {
            "kind": "spatial",
            "rotation": self.rotation,
            "translation": self.translation,
            "scale": list(self.scale),
            "fill": self.fill,
            "goal": self.goal.kind,
        }
