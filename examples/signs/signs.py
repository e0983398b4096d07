"""Small colour pictures of road signs, drawn here: eight kinds, seen from a car.

Each sign is drawn large, then tilted, lit, blurred and put before a background. No picture of a
real sign is used, and nothing learnt here belongs into a vehicle.
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

SIDE = 32
NAMES = (
    "stop", "yield", "no entry", "priority", "warning", "roundabout", "limit 30", "limit 80"
)  # fmt: skip
_LARGE, _WIDE = 128, 180
_RED, _WHITE, _BLUE, _YELLOW = (190, 25, 30), (240, 240, 235), (20, 70, 170), (245, 195, 20)
_BLACK = (20, 20, 20)
# Seven strokes a digit: top, upper left, upper right, middle, lower left, lower right, bottom.
_STROKES = {"3": "1011011", "8": "1111111", "0": "1110111"}


def signs(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """x (n, 3, 32, 32) float32 in [0, 1], multiples of 1/255; y (n,) in the order of NAMES."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(NAMES), n)
    faces = [_face(name) for name in NAMES]
    x = np.stack([_seen(faces[label], rng) for label in y])
    return torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(y)


def _face(name: str) -> Image.Image:
    """The sign head-on, transparent around it."""
    image = Image.new("RGBA", (_LARGE, _LARGE))
    draw = ImageDraw.Draw(image)
    whole = (4, 4, _LARGE - 4, _LARGE - 4)
    if name == "stop":
        draw.polygon(_corners(8, 62, math.pi / 8), fill=_RED)
        draw.rectangle((22, 52, 106, 76), fill=_WHITE)
        for left in (30, 50, 70, 90):
            draw.rectangle((left, 56, left + 8, 72), fill=_RED)
    elif name in ("yield", "warning"):
        turn = math.pi / 2 if name == "yield" else -math.pi / 2
        draw.polygon(_corners(3, 66, turn), fill=_RED)
        draw.polygon(_corners(3, 40, turn), fill=_WHITE)
        if name == "warning":
            draw.rectangle((59, 46, 69, 76), fill=_BLACK)
            draw.ellipse((59, 80, 69, 90), fill=_BLACK)
    elif name == "no entry":
        draw.ellipse(whole, fill=_RED)
        draw.rectangle((24, 52, 104, 76), fill=_WHITE)
    elif name == "priority":
        draw.polygon(_corners(4, 62, 0), fill=_WHITE)
        draw.polygon(_corners(4, 46, 0), fill=_YELLOW)
    elif name == "roundabout":
        draw.ellipse(whole, fill=_BLUE)
        draw.arc((32, 32, 96, 96), 20, 320, fill=_WHITE, width=12)
    else:
        draw.ellipse(whole, fill=_RED)
        draw.ellipse((20, 20, 108, 108), fill=_WHITE)
        for digit, left in zip(name[-2:], (34, 68), strict=True):
            _digit(draw, digit, left)
    return image


def _corners(count: int, radius: float, turn: float) -> list[tuple[float, float]]:
    middle = _LARGE / 2
    angles = [turn + 2 * math.pi * k / count for k in range(count)]
    return [(middle + radius * math.cos(a), middle + radius * math.sin(a)) for a in angles]


def _digit(draw: ImageDraw.ImageDraw, digit: str, left: int) -> None:
    right, top, middle, bottom, thick = left + 26, 40, 64, 88, 7
    strokes = (
        (left, top, right, top + thick), (left, top, left + thick, middle),
        (right - thick, top, right, middle), (left, middle - 3, right, middle + 4),
        (left, middle, left + thick, bottom), (right - thick, middle, right, bottom),
        (left, bottom - thick, right, bottom),
    )  # fmt: skip
    for there, box in zip(_STROKES[digit], strokes, strict=True):
        if there == "1":
            draw.rectangle(box, fill=_BLACK)


def _seen(face: Image.Image, rng: np.random.Generator) -> np.ndarray:
    """(32, 32, 3) uint8: tilted, placed, lit, blurred, with noise."""
    base = rng.integers(40, 200, 3)
    slope = np.linspace(-40, 40, _WIDE)[:, None, None] * rng.uniform(-1, 1)
    ground = np.clip(base + slope + rng.normal(0, 12, (_WIDE, _WIDE, 1)), 0, 255)
    scene = Image.fromarray(ground.astype(np.uint8))
    size = int(rng.uniform(0.68, 0.86) * _WIDE)
    turned = face.resize((size, size)).rotate(rng.normal(0, 6), Image.Resampling.BICUBIC)
    tilt = rng.uniform(-0.12, 0.12, 4) * size
    corners = (tilt[0], 0, 0, size + tilt[1], size, size + tilt[2], size + tilt[3], 0)
    turned = turned.transform((size, size), Image.Transform.QUAD, corners)
    at = tuple(int(v) for v in (_WIDE - size) / 2 + rng.uniform(-0.05, 0.05, 2) * _WIDE)
    scene.paste(turned, at, turned)
    small = np.asarray(scene.resize((SIDE, SIDE), Image.Resampling.BOX), float)
    lit = (small - 128) * rng.uniform(0.6, 1.2) + 128 + rng.uniform(-45, 45)
    return np.clip(np.rint(lit + rng.normal(0, 4, lit.shape)), 0, 255).astype(np.uint8)


def build() -> nn.Module:
    """Three convolutions and two linear layers over 32×32 colour."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, len(NAMES)),
    )  # fmt: skip


def sheet(path: Path, rows: int = 6) -> None:
    """A picture of a few of each kind, to look at."""
    x, y = signs(400, seed=5)
    shown = [x[y == label][:rows] for label in range(len(NAMES))]
    grid = torch.cat([torch.cat(list(part), 2) for part in shown], 1)
    pixels = (grid.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    Image.fromarray(pixels).resize((pixels.shape[1] * 3, pixels.shape[0] * 3), 0).save(path)
