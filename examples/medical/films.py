"""Films that look a little like chest X-rays, made here: 12 bits, one channel, two findings.

Two lungs darker than the body around them; in half of the films one to three faint, soft opacities
inside a lung. Nobody is treated by a net that learnt these: they show how deep images go through.
"""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor, nn

SIDE, TOP = 32, 4095
FINDINGS = ("normal", "opacity")


def films(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x (n, side, side) uint16 of 0..4095, y (n,) 1 where there is an opacity."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    rows, columns = np.mgrid[0:SIDE, 0:SIDE] / (SIDE - 1)
    x = np.empty((n, SIDE, SIDE))
    for index in range(n):
        shift = rng.normal(0, 0.03, 2)
        lungs = [(0.5 + shift[0], 0.28 + shift[1]), (0.5 + shift[0], 0.72 + shift[1])]
        film = np.full((SIDE, SIDE), 0.62 + rng.normal(0, 0.03))
        for down, right in lungs:
            film -= 0.36 * _soft(rows - down, columns - right, 0.34, 0.17)
        for _ in range(rng.integers(1, 4) if y[index] else 0):
            down, right = lungs[rng.integers(2)]
            at = (down + rng.uniform(-0.2, 0.2), right + rng.uniform(-0.08, 0.08))
            film += rng.uniform(0.12, 0.25) * _soft(rows - at[0], columns - at[1], 0.09, 0.09)
        film += ndimage.gaussian_filter(rng.normal(0, 0.05, (SIDE, SIDE)), 1) + rng.normal(
            0, 0.015, (SIDE, SIDE)
        )
        x[index] = film
    return np.rint(np.clip(x, 0, 1) * TOP).astype(np.uint16), y


def _soft(down: np.ndarray, right: np.ndarray, tall: float, wide: float) -> np.ndarray:
    """1 inside an ellipse, falling off softly at its edge."""
    return 1 / (1 + np.exp(12 * (np.hypot(down / tall, right / wide) - 1)))


def other_inputs(x: np.ndarray) -> dict[str, np.ndarray]:
    """What reaches such a system by mistake, (n, side, side) uint16 each."""
    rng = np.random.default_rng(9)
    unit = x / TOP
    made = {
        "turned by 90 degrees": np.rot90(unit, axes=(1, 2)),
        "inverted": 1 - unit,
        "half the exposure": unit / 2,
        "noise of 5 %": unit + rng.normal(0, 0.05, x.shape),
        "blurred": ndimage.gaussian_filter(unit, (0, 1.5, 1.5)),
        "no film at all": rng.uniform(0, 1, x.shape),
    }
    return {
        name: np.rint(np.clip(rows, 0, 1) * TOP).astype(np.uint16) for name, rows in made.items()
    }


class Scaled(nn.Module):
    """Raw units in, a net's usual range inside."""

    def forward(self, x: Tensor) -> Tensor:
        return x / TOP


def build() -> nn.Module:
    """A small convolutional net over films in raw units."""
    return nn.Sequential(
        Scaled(),
        nn.Conv2d(1, 8, 5, 2, 2), nn.ReLU(), nn.Conv2d(8, 16, 5, 2, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16 * (SIDE // 4) ** 2, 32), nn.ReLU(), nn.Linear(32, 2),
    )  # fmt: skip


def png(film: np.ndarray) -> bytes:
    """One film as a 16-bit PNG file."""
    stream = io.BytesIO()
    Image.fromarray(film).save(stream, "PNG")
    return stream.getvalue()


def write(folder: Path, n: int, seed: int = 0) -> None:
    """films.npz, as buckler.toml names it."""
    x, y = films(n, seed)
    np.savez(folder / "films.npz", x=x, y=y)


def tensor(x: np.ndarray) -> Tensor:
    """(n, 1, side, side) float32 in raw units."""
    return torch.from_numpy(x.astype(np.float32))[:, None]
