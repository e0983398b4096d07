"""JPEG: the real codec forward, a differentiable one backward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from buckler.errors import UsageError


@dataclass(frozen=True)
class JPEG:
    """A round trip through an 8-bit JPEG file (OpenCV; 4:2:0 for colour), for x in [0, 1].

    (Das et al. 2018, arXiv:1802.06816.) The surrogate is kornia's differentiable JPEG (Reich et
    al. 2024): an identity backward would overstate what the codec holds off about threefold.
    """

    quality: int = 75
    random: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UsageError(f"the JPEG quality must be 1 to 100. Got {self.quality}")

    @property
    def name(self) -> str:
        return f"jpeg{self.quality}"

    @property
    def surrogate(self) -> Callable[[Tensor], Tensor]:
        return self._soft

    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor:
        """x (n, 1 or 3, h, w) → the same shape."""
        if x.ndim != 4 or x.shape[1] not in (1, 3):
            raise UsageError(f"JPEG needs images (n, 1 or 3, h, w). Got {tuple(x.shape)}")
        pixels = (x.detach() * 255).round().clamp(0, 255).to(torch.uint8)
        images = pixels.permute(0, 2, 3, 1).cpu().numpy()
        out = np.empty_like(images)
        options = [cv2.IMWRITE_JPEG_QUALITY, self.quality]
        for row, image in enumerate(images):
            # OpenCV means BGR and gives a grey image back without its channel.
            _, code = cv2.imencode(".jpg", np.ascontiguousarray(image[..., ::-1]), options)
            decoded = np.asarray(cv2.imdecode(code, cv2.IMREAD_UNCHANGED)).reshape(image.shape)
            out[row] = decoded[..., ::-1]
        return torch.from_numpy(out).permute(0, 3, 1, 2).to(x) / 255

    def _soft(self, x: Tensor) -> Tensor:
        """kornia's codec: colour only, sides that are multiples of 16."""
        from kornia.enhance import jpeg_codec_differentiable

        channels, height, width = x.shape[1:]
        colour = x.expand(-1, 3, -1, -1) if channels == 1 else x
        edges = (0, -width % 16, 0, -height % 16)
        padded = functional.pad(colour, edges, mode="replicate")
        quality = torch.tensor([float(self.quality)], device=x.device, dtype=x.dtype)
        out: Tensor = jpeg_codec_differentiable(padded, quality)
        return out[:, :channels, :height, :width]
