"""A handful of pixels, changed as far as the box allows."""

from dataclasses import dataclass, field, replace
from typing import Self

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal


def as_grid(x: Tensor, grouped: bool = True) -> Tensor:
    """x (n, ...) as (n, channels, pixels): what one location holds moves together.

    (n, c, h, w) has h·w pixels of c channels, or c·h·w of one if not grouped; (n, h, w) and (n, d)
    have one channel.
    """
    if x.ndim == 4 and grouped:
        return x.flatten(2)
    return x.flatten(1)[:, None]


@dataclass(frozen=True)
class PixelBudget:
    """The attacker may set at most `pixels` pixels to any value inside the box (L0).

    grouped: a pixel is a place with all its channels; False: each value counts by itself, as in
        the literature on L0.
    """

    pixels: int
    box: tuple[float, float] = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)
    grouped: bool = True

    def __post_init__(self) -> None:
        if self.pixels < 1:
            raise UsageError(f"pixels must be at least 1. Got {self.pixels}")
        if not self.box[0] < self.box[1]:
            raise UsageError(f"box must be (low, high) with low < high. Got {self.box}")

    def __str__(self) -> str:
        return f"{self.pixels} {'pixel' if self.grouped else 'value'}{'s' * (self.pixels > 1)}"

    def grid(self, x: Tensor) -> Tensor:
        """x (n, ...) as (n, channels, pixels), by what this budget counts as one."""
        return as_grid(x, self.grouped)

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) how many pixels differ."""
        return (self.grid(x_adv) != self.grid(x)).any(1).sum(1).to(x.dtype)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: at most `pixels` differ, and all lie inside the box."""
        low, high = self.box
        flat = x_adv.flatten(1)
        inside = (torch.isfinite(flat) & (flat >= low) & (flat <= high)).all(1)
        return inside & (self.distance(x, x_adv) <= self.pixels)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The nearest point of the budget: the changes that count most stay, the rest is undone."""
        clipped = x_adv.clamp(*self.box)
        grid, start = self.grid(clipped), self.grid(x)
        asked = self.grid(x_adv)
        size = ((asked - start).square() - (asked - grid).square()).sum(1)  # what keeping it gains
        keep = torch.zeros_like(size, dtype=torch.bool)
        keep.scatter_(1, size.topk(min(self.pixels, size.shape[1]), dim=1).indices, True)
        return torch.where(keep[:, None], grid, start).reshape(x.shape)

    def steepest(self, grad: Tensor) -> Tensor:
        """Full steps at the pixels where a linear function with this gradient rises most."""
        grid = self.grid(grad)
        size = grid.abs().sum(1)
        keep = torch.zeros_like(size, dtype=torch.bool)
        keep.scatter_(1, size.topk(min(self.pixels, size.shape[1]), dim=1).indices, True)
        return torch.where(keep[:, None], grid.sign(), torch.zeros_like(grid)).reshape(grad.shape)

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """`pixels` random pixels set to random values inside the box."""
        low, high = self.box
        grid = self.grid(x)
        rank = draws.uniform(seed, rows, step, (grid.shape[2],)).to(x.device)
        keep = torch.zeros_like(rank, dtype=torch.bool)
        keep.scatter_(1, rank.topk(min(self.pixels, rank.shape[1]), dim=1).indices, True)
        values = draws.uniform(draws.derive(seed, "values"), rows, step, tuple(grid.shape[1:]))
        values = (low + (high - low) * values.to(x)).clamp(low, high)
        return torch.where(keep[:, None], values, grid).reshape(x.shape)

    def take(self, idx: Tensor | slice) -> Self:
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with every pixel in the budget."""
        return replace(self, pixels=self.grid(x).shape[2])

    def to_dict(self) -> dict[str, object]:
        values = {} if self.grouped else {"grouped": False}
        return {"kind": "pixels", "pixels": self.pixels, "goal": self.goal.kind, **values}
