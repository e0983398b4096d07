"""Exact projections onto a ball cut by a box: the nearest point of both at once.

All take delta = x_adv − x and the room each value has before it meets the box in delta's direction,
both (n, d), room ≥ 0, and return the size of the allowed move, (n, d) ≥ 0, in that direction.
"""

import torch
from torch import Tensor

_ROUNDS = 64  # each one saturates at least one value more; a handful is the rule


def l2_size(size: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """argmin |z − size|₂ over |z|₂ ≤ eps, 0 ≤ z ≤ room; eps (n, 1).

    By the KKT conditions z = min(s · size, room) with one s ≤ 1 a row. The values that meet the box
    at too small an s also meet it at the right one, so solving for s with those fixed climbs to the
    right s in a few rounds and never passes it.
    """
    inside = torch.minimum(size, room)
    over = torch.linalg.vector_norm(inside, dim=1) > eps[:, 0]
    if not bool(over.any()):
        return inside
    where = over.nonzero()[:, 0]
    part, wall = size.index_select(0, where), room.index_select(0, where)
    radius2 = eps[where].square()
    squares = part.square()
    s = (radius2 / squares.sum(1, keepdim=True)).sqrt()
    for _ in range(_ROUNDS):
        asked = s * part
        moved = torch.minimum(asked, wall)
        # |moved|² = what has met the wall + s² · the rest: solve for s with those fixed.
        short = (radius2 - moved.square().sum(1, keepdim=True)).clamp_min_(0)
        met = asked.sub_(moved).sign_()  # 1 where it has; torch.where and masks cost ten times that
        # Value by value: next to one huge square the difference of two sums would be rounding.
        rest = torch.sub(squares, met.mul_(squares)).sum(1, keepdim=True)
        new = (s.square() + short / rest.clamp_min_(1e-30)).sqrt_()
        new = torch.where(short > 1e-6 * radius2, new, s)
        if bool((new == s).all()):
            break
        s = new
    return inside.index_copy_(0, where, moved)


def l1_size(size: Tensor, room: Tensor, eps: Tensor) -> Tensor:
    """argmin |z − size|₂ over Σ z ≤ eps, 0 ≤ z ≤ room; eps (n, 1).

    z = clip(size − t, 0, room) with one t ≥ 0 a row; Σ z falls with t and is linear between the
    points where a value leaves its wall or reaches 0, so t follows from one sort
    (Croce and Hein 2021, arXiv:2103.01208).
    """
    inside = torch.minimum(size, room)
    over = inside.sum(1) > eps[:, 0]
    if not bool(over.any()):
        return inside
    part, wall, radius = size[over], room[over], eps[over]
    ends, order = torch.cat([part, (part - wall).clamp_min(0)], 1).sort(1, descending=True)
    ends = ends.double()  # sums of many values far outside would round away what is left
    falls = torch.where(order < part.shape[1], 1.0, -1.0).to(ends)  # below: one more that slides
    sliding = falls.cumsum(1)
    gaps = torch.cat([ends[:, :-1] - ends[:, 1:], ends[:, -1:]], 1)
    total = (sliding * gaps).cumsum(1)  # Σ z at the next end down
    first = (total < radius).sum(1, keepdim=True).clamp_max(total.shape[1] - 1)
    before = torch.where(first > 0, total.gather(1, (first - 1).clamp_min(0)), 0)
    slope = sliding.gather(1, first).clamp_min(1)
    t = ends.gather(1, first) - (radius - before) / slope
    moved = torch.minimum((part - t.clamp_min(0)).clamp_min(0), wall).to(part)
    inside[over] = moved * (radius / moved.sum(1, keepdim=True)).clamp_max(1)
    return inside
