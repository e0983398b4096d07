"""The nearest point of a plane inside a box, exactly, in L∞, L2 and L1.

Each value moves towards the plane at its own slope until it meets the wall. What the row gains on
the plane is a concave, piecewise linear function of how far the move has gone, so Newton's steps
from below never pass the answer and land on it once the values at the wall are known.
"""

import torch
from torch import Tensor

_ROUNDS = 64  # each one meets a wall more; a handful is the rule
_TINY = 1e-30
_NEAR = 1e-6  # of what a row needs: nearer than that it is there


def onto_plane(
    norm: str, x: Tensor, slope: Tensor, gap: Tensor, box: tuple[float, float]
) -> Tensor:
    """The shortest move (n, d) that takes x (n, d) to slope · z = slope · x − gap inside the box.

    Where the whole box lies on one side, the move that comes nearest.

    Args:
        slope: (n, d), the plane's normal.
        gap: (n,), how far slope · x lies above the plane.
    """
    low, high = box
    top = slope.abs().amax(1).clamp_min(_TINY)  # squares of small slopes underflow
    slope = slope * (torch.where(gap > 0, -1, 1) / top)[:, None]  # moves gain along it, from here
    side = slope.sign()  # masks and torch.where cost ten times what signs and products do
    wall = side * ((high - low) / 2) + (high + low) / 2
    room = wall.sub_(x).mul_(side).clamp_min_(0)
    steep, need = slope.abs(), (gap.abs() / top)[:, None]
    solve = {"linf": _linf, "l2": _l2, "l1": _l1}[norm]
    return solve(steep, room, need).mul_(side)


def _linf(steep: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """min(t, room), with the one t a row at which steep · move = need."""
    t = torch.zeros_like(need)
    move = torch.zeros_like(steep)
    for _ in range(_ROUNDS):
        free = (room - move).sign_().mul_(steep).sum(1, keepdim=True)  # of values not at the wall
        short = need - (steep * move).sum(1, keepdim=True)
        new = torch.where(free > 0, t + short / free.clamp_min(_TINY), torch.inf)
        new = torch.where(short > _NEAR * need, new, t)
        if bool((new <= t).all()):
            break
        t = torch.maximum(t, new)
        move = torch.minimum(t, room)
    return move


def _l2(steep: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """min(s · steep, room), with the one s a row at which steep · move = need."""
    s, squares = torch.zeros_like(need), steep.square()
    move = torch.zeros_like(steep)
    for _ in range(_ROUNDS):
        free = (room - move).sign_().mul_(squares).sum(1, keepdim=True)
        short = need - (steep * move).sum(1, keepdim=True)
        new = torch.where(free > 0, s + short / free.clamp_min(_TINY), s)
        new = torch.where(short > _NEAR * need, new, s)
        if bool((new <= s).all()):
            break
        s = torch.maximum(s, new)
        move = torch.minimum(s * steep, room)
    return move


def _l1(steep: Tensor, room: Tensor, need: Tensor) -> Tensor:
    """The steepest values go to their walls, one goes part of the way, the rest stay."""
    order = steep.argsort(1, descending=True)
    slope, wall = steep.gather(1, order), room.gather(1, order)
    gains = slope * wall
    left = need - gains.cumsum(1).sub_(gains)  # still needed when this value's turn comes
    move = torch.minimum(left.clamp_min(0) / slope.clamp_min(_TINY), wall)
    return torch.zeros_like(steep).scatter_(1, order, move)
