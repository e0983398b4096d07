"""Streams that nobody should flag: images as they come, retries, files encoded anew, videos."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

Stream = Iterator[tuple[str, Tensor]]
_FRAMES = 30
_PAD = 16


@dataclass(frozen=True)
class Kind:
    """A stream's name, and what is allowed of it: flagged inputs / inputs."""

    name: str
    bar: float


IID = Kind("the test set, one busy client", 0.001)
SPREAD = Kind("the test set, 100 clients", 0.001)
RETRIES = Kind("each image sent one to five times", 0.005)
FILES = Kind("each image as one to five JPEG files", 0.005)
FAST = Kind("clips of 30 frames, 1 to 2 pixels a frame", 0.005)
SLOW = Kind("clips of 30 frames, 0.3 to 1 pixel a frame", 0.005)
STILL = Kind("a still camera, noise of 2 levels (not in the bars)", 1.0)


def streams(x: Tensor, seed: int, few: int) -> Iterator[tuple[Kind, Stream]]:
    """All kinds, of images x (n, c, h, w) in [0, 1].

    Args:
        few: images of the streams other than the test set itself; a tenth of it for clips.
    """
    rng = np.random.default_rng(seed)
    x = x[torch.from_numpy(rng.permutation(len(x)))]
    yield IID, (("one", row) for row in x)
    yield SPREAD, ((str(rng.integers(100)), row) for row in x)
    yield RETRIES, _repeated(x[:few], rng)
    yield FILES, _files(x[:few], rng)
    yield FAST, _clips(x[: few // 10], rng, 1.0, 2.0)
    yield SLOW, _clips(x[: few // 10], rng, 0.3, 1.0)
    yield STILL, _still(x[: few // 10], rng)


def _repeated(x: Tensor, rng: np.random.Generator) -> Stream:
    for index, row in enumerate(x):
        for _ in range(rng.integers(1, 6)):
            yield str(index % 20), row


def _files(x: Tensor, rng: np.random.Generator) -> Stream:
    for index, row in enumerate(x):
        for quality in rng.choice([95, 90, 85, 80, 75, 60, 50], rng.integers(1, 6), replace=False):
            yield str(index % 20), _jpeg(row, int(quality))


def _jpeg(row: Tensor, quality: int) -> Tensor:
    pixels = (row.permute(1, 2, 0) * 255).round().byte().numpy()
    _, file = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    found = cv2.imdecode(file, cv2.IMREAD_UNCHANGED)
    found = found[..., None] if found.ndim == 2 else found
    return torch.from_numpy(found).permute(2, 0, 1).float() / 255


def _clips(x: Tensor, rng: np.random.Generator, least: float, most: float) -> Stream:
    """A camera that pans over each image, at a speed of its own."""
    _, h, w = x.shape[1:]
    for index, row in enumerate(x):
        wide = torch.nn.functional.pad(row[None], (_PAD,) * 4, mode="replicate")[0]
        angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(least, most)
        for frame in range(_FRAMES):
            moved = np.array([np.sin(angle), np.cos(angle)]) * speed * frame
            top, left = (_PAD + np.rint(np.clip(moved, -_PAD, _PAD))).astype(int)
            yield str(index % 5), wide[:, top : top + h, left : left + w]


def _still(x: Tensor, rng: np.random.Generator) -> Stream:
    for index, row in enumerate(x):
        for _ in range(_FRAMES):
            noise = torch.from_numpy(rng.normal(0, 2 / 255, row.shape)).float()
            yield str(index % 5), ((row + noise).clamp(0, 1) * 255).round() / 255
