"""Gaussian noise on the input: kept as a baseline that does not hold."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError


@dataclass(frozen=True)
class GaussianNoise:
    """x plus noise of standard deviation sigma (input units), clipped to [0, 1]."""

    sigma: float = 0.05
    random: ClassVar[bool] = True
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise UsageError(f"sigma must be > 0. Got {self.sigma}")

    @property
    def name(self) -> str:
        return f"noise{np.format_float_positional(self.sigma, trim='-')}"

    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        keys = torch.arange(len(x), device=x.device) if keys is None else keys
        noise = draws.normal(draws.derive(0, "noise"), keys, 0, tuple(x.shape[1:]))
        return (x + self.sigma * noise.to(x)).clamp(0, 1)
