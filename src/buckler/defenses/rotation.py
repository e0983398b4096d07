"""A small random rotation, cropped so that no corner is empty."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from buckler import draws
from buckler.errors import UsageError


@dataclass(frozen=True)
class RandomRotation:
    """With probability ½ a rotation by up to ±degrees, then the crop that has no empty corners,
    resized back: the shape stays. Bilinear, so it is its own derivative; attack it by EOT.
    """

    degrees: float = 5.0
    random: ClassVar[bool] = True
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not 0 < self.degrees <= 45:
            raise UsageError(f"degrees must be in (0, 45]. Got {self.degrees}")

    @property
    def name(self) -> str:
        return f"rotation{np.format_float_positional(self.degrees, trim='-')}"

    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """x (n, c, h, w) → the same shape; keys (n,) int64 are the addresses of the draws."""
        if not len(x):
            return x
        keys = torch.arange(len(x), device=x.device) if keys is None else keys
        u = draws.uniform(draws.derive(0, "rotation"), keys, 0, (2,)).to(x)
        angle = (2 * u[:, 1] - 1) * math.radians(self.degrees) * (u[:, 0] < 0.5)
        height, width = x.shape[-2:]
        ratio = max(height / width, width / height)
        zoom = 1 / (torch.cos(angle) + ratio * torch.sin(angle.abs()))
        cos, sin = zoom * torch.cos(angle), zoom * torch.sin(angle)
        zero = torch.zeros_like(cos)
        matrix = torch.stack(
            [
                torch.stack([cos, -sin * height / width, zero], 1),
                torch.stack([sin * width / height, cos, zero], 1),
            ],
            1,
        )
        grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
        turned = functional.grid_sample(x, grid, padding_mode="border", align_corners=False)
        edges = (1, 2, 3)  # a mean of pixels lies between them, but for rounding
        turned = turned.clamp(x.detach().amin(edges, True), x.detach().amax(edges, True))
        return torch.where((angle != 0).reshape(-1, 1, 1, 1), turned, x)
