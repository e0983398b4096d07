"""Random numbers keyed by (seed, row, step): a row's draws do not depend on who shares its batch.

A generator with state hands out numbers in the order they are asked for, so a row's noise changes
when its neighbours leave the batch. Here each number is a hash of its own address, in wrapping
64-bit integer arithmetic: the same bits on every device. The mixer is the finaliser of SplitMix64
(Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
"""

import hashlib
import math

import torch
from torch import Tensor

_WEYL = -7046029254386353131  # 0x9E3779B97F4A7C15, the odd step of SplitMix64, as a signed int64
_MIX1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX2 = -7723592293110705685  # 0x94D049BB133111EB


def _mix(z: Tensor) -> Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own >> on int64 keeps the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def derive(seed: int, *labels: str | int) -> int:
    """A seed for one named purpose, unrelated to the seeds of other purposes."""
    text = repr((seed, *labels)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def uniform(seed: int, rows: Tensor, step: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), the same bits on every device.

    Args:
        seed: any int.
        rows: (n,) int64, the ids of the rows; equal ids get equal numbers.
        step: which draw of the row this is.
        shape: what each row gets.

    Returns: (n, *shape) float32.
    """
    size = math.prod(shape)
    start = torch.tensor([derive(seed, step)], dtype=torch.int64, device=rows.device)
    key = _mix(_mix(rows * _WEYL + start) + _WEYL)
    counter = torch.arange(1, size + 1, dtype=torch.int64, device=rows.device) * _WEYL
    bits = _shift(_mix(key[:, None] + counter[None, :]), 40)
    return (bits.to(torch.float32) * 2.0**-24).reshape(len(rows), *shape)


def normal(seed: int, rows: Tensor, step: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal numbers (Box and Muller 1958), equal on every device within rounding.

    Returns: (n, *shape) float32.
    """
    size = math.prod(shape)
    half = (size + 1) // 2
    u = uniform(seed, rows, step, (2, half))
    radius = torch.sqrt(-2.0 * torch.log(1.0 - u[:, 0]))  # 1 - u lies in (0, 1]: no log of zero
    angle = 2.0 * math.pi * u[:, 1]
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
    return both[:, :size].reshape(len(rows), *shape)


def integers(seed: int, rows: Tensor, step: int, shape: tuple[int, ...], high: int) -> Tensor:
    """Whole numbers in 0..high−1 (high ≤ 2**20, so that the bias stays under 1/16).

    Returns: (n, *shape) int64.
    """
    return (uniform(seed, rows, step, shape) * high).long()


def permutation(seed: int, step: int, size: int) -> Tensor:
    """A shuffled 0..size−1, (size,) int64."""
    return torch.argsort(uniform(seed, torch.tensor([step]), 0, (size,))[0], stable=True)
