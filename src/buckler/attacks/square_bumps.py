"""Square's proposals for L2 and L1: change is moved from one window into a bump in another."""

from functools import lru_cache

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.square_windows import Image, corners, places
from buckler.threats import LpBall
from buckler.threats.lp import per_row

_SAFE = 1 - 1e-6  # of eps: what rounding may add


def bumps(size: tuple[int, int], power: int, like: Tensor) -> Tensor:
    """(2, tall · wide): two halves of opposite sign, one above the other and side by side.

    Each half falls off from its middle with the Chebyshev distance, as Σ_{k ≥ distance} 1/k^power,
    and the whole has norm 1: L2 for power 2, L1 for power 4.
    """
    return _bumps(size, power).to(like)


@lru_cache(maxsize=64)
def _bumps(size: tuple[int, int], power: int) -> Tensor:
    tall, wide = size
    over = torch.cat([_half(tall // 2, wide, power), -_half(tall - tall // 2, wide, power)], 0)
    beside = torch.cat([_half(tall, wide // 2, power), -_half(tall, wide - wide // 2, power)], 1)
    both = torch.stack([over, beside]).flatten(1)
    return both / _length(both, power).clamp_min(1e-12)


def _half(tall: int, wide: int, power: int) -> Tensor:
    down = (torch.arange(tall) - tall // 2).abs()
    across = (torch.arange(wide) - wide // 2).abs()
    far = torch.maximum(down[:, None], across)
    steps = torch.arange(1, 2 + max(tall, wide) // 2).double() ** -power
    tail = steps.flip(0).cumsum(0).flip(0)
    half: Tensor = tail[far]
    return half / _length(half.flatten(), power).clamp_min(1e-12)


def _length(change: Tensor, power: int) -> Tensor:
    """L2 norm over the last dimension, which stays; L1 for power 4."""
    order = 2 if power == 2 else 1
    length: Tensor = torch.linalg.vector_norm(change, ord=order, dim=-1, keepdim=True)
    return length


def tiled(x: Tensor, seed: int, rows: Tensor, image: Image, threat: LpBall) -> Tensor:
    """The first point, (n, d): bumps side by side, a sign for each channel, of length eps."""
    c, h, w = image
    side, power = max(1, min(h, w) // 5), power_of(threat)
    down, across = h // side, w // side
    u = draws.uniform(draws.derive(seed, "tiles"), rows, 0, (c + 1, down, across))
    turned = (u[:, :1] < 0.5)[..., None, None]
    signs = torch.where(u[:, 1:] < 0.5, -1.0, 1.0).to(x)[..., None, None]
    over, beside = bumps((side, side), power, x).reshape(2, side, side)
    tiles = torch.where(turned, over, beside) * signs  # (n, c, down, across, side, side)
    tiles = tiles.transpose(3, 4).reshape(len(x), c, down * side, across * side)
    delta = x.new_zeros(len(x), c, h, w)
    top, left = (h - down * side) // 2, (w - across * side) // 2
    delta[:, :, top : top + down * side, left : left + across * side] = tiles
    flat = delta.flatten(1)
    if threat.norm == "l1":
        return threat.project(x.flatten(1), x.flatten(1) + flat)
    flat = flat / _length(flat, power) * (_SAFE * per_row(threat.eps, flat))
    return (x.flatten(1) + flat).clamp(*threat.box)


def moves(
    x: Tensor, point: Tensor, u: Tensor, size: tuple[int, int], image: Image, threat: LpBall
) -> tuple[Tensor, Tensor]:
    """L2 and L1: one window back at x, its change in a bump in another. u (n, 5 + c).

    The first window gets its old direction plus a bump of random sign, each of norm 1, at the norm
    that both windows had in that channel and the channel's part of what is left of eps. For L1 that
    is multiplied by the channels, and the exact projection then drops the smallest changes.
    """
    power, p = power_of(threat), 2 if threat.norm == "l2" else 1
    used = total(x, point, threat)
    x, ends = x.flatten(1), [corners(u[:, i : i + 2], image, size) for i in (0, 2)]
    first, second = (places(*end, image, size) for end in ends)
    start, start2 = _at(x, first), _at(x, second)
    shared, into = _overlap(ends, size)
    old = _at(point, first) - start
    apart = ((_at(point, second) - start2).abs() ** p).masked_fill(shared[:, None], 0)
    mass = (old.abs() ** p).sum(2, keepdim=True) + apart.sum(2, keepdim=True)
    spare = (_SAFE * per_row(threat.eps, used)) ** p - used
    mass = mass + spare.clamp_min(0)[:, None, None] / image[0]

    pattern = bumps(size, power, x)[(u[:, 4] < 0.5).long()][:, None]
    pattern = pattern * torch.where(u[:, 5:] < 0.5, -1.0, 1.0).to(x)[:, :, None]
    new = pattern + old / (1e-12 + _length(old, power))
    new = new / (1e-12 + _length(new, power)) * mass ** (1 / p)
    several = p == 1 and image[0] > 1
    new = start + new * image[0] if several else (start + new).clamp_(*threat.box)
    # A place in both windows is written twice: with the same value.
    again = new.gather(2, into[:, None].expand_as(new))
    new2 = torch.where(shared[:, None], again, start2)
    where, new = torch.cat([first, second], 2).flatten(1), torch.cat([new, new2], 2).flatten(1)
    if not several:
        return where, new
    whole = threat.project(x, point.scatter(1, where, new))
    return torch.arange(x.shape[1], device=x.device).expand_as(whole), whole


def power_of(threat: LpBall) -> int:
    return 2 if threat.norm == "l2" else 4


def total(x: Tensor, point: Tensor, threat: LpBall) -> Tensor:
    """(n,) the change so far: its squared L2 norm, or its L1 norm."""
    delta = point - x.flatten(1)
    return (delta.square() if threat.norm == "l2" else delta.abs()).sum(1)


def _at(flat: Tensor, where: Tensor) -> Tensor:
    return flat.gather(1, where.flatten(1)).reshape(where.shape)


def _overlap(ends: list[tuple[Tensor, Tensor]], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Which places of the second window lie in the first (n, m), and where there (n, m)."""
    tall, wide = size
    (top, left), (top2, left2) = ends
    down = (top2 - top)[:, None] + torch.arange(tall, device=top.device)
    across = (left2 - left)[:, None] + torch.arange(wide, device=top.device)
    inside = ((down >= 0) & (down < tall))[:, :, None] & ((across >= 0) & (across < wide))[:, None]
    into = down.clamp(0, tall - 1)[:, :, None] * wide + across.clamp(0, wide - 1)[:, None]
    return inside.flatten(1), into.flatten(1)
