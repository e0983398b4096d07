"""Median filter: each value becomes the median of its window."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from buckler.errors import UsageError


@dataclass(frozen=True)
class Median:
    """Median over a size × size window, edges replicated, as scipy.ndimage.median_filter has it.

    For even sizes the window ends at the pixel and the upper median is taken: at size 2 the third
    smallest of four. A selection, so it is its own derivative; channels are filtered apart.
    (Xu, Evans, Qi 2018, arXiv:1704.01155; falls to attackers who know it, arXiv:1802.00420.)
    """

    size: int = 2
    random: ClassVar[bool] = False
    surrogate: ClassVar[None] = None

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 9:
            raise UsageError(f"the median's size must be 2 to 9. Got {self.size}")

    @property
    def name(self) -> str:
        return f"median{self.size}"

    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """x (n, c, h, w) → the same shape."""
        if x.ndim != 4:
            raise UsageError(f"the median filter needs images (n, c, h, w). Got {tuple(x.shape)}")
        before = self.size // 2
        after = self.size - 1 - before
        padded = functional.pad(x, (before, after, before, after), mode="replicate")
        h, w = x.shape[-2:]
        window = torch.stack(
            [padded[..., i : i + h, j : j + w] for i in range(self.size) for j in range(self.size)]
        )
        return window.kthvalue(self.size * self.size // 2 + 1, dim=0).values
