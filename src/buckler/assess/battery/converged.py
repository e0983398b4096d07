"""Did the attack converge? Checks 13 to 17 and 19; 23 and 24 have files of their own."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from buckler.assess.battery import binarized, selftest
from buckler.assess.battery.check import CONVERGED, Check, absent
from buckler.assess.battery.scene import Main, Scene, climb
from buckler.assess.battery.second_look import Look, stay
from buckler.attacks import Square
from buckler.protocols import Attack
from buckler.threats import LpBall

LEFT, LEFT_GUARDED = 0.01, 0.05  # of the rows, without any bound (13)
REVERSED = 0.01  # of the rows (15)
MORE, GAIN = 0.01, 0.05  # of the rows, and of the way climbed (16)
LATE = 0.05  # of the way climbed, in the last ten steps (17)
_RADII = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)  # times eps (15)
_LAST = 10
_NO_PATH = "no gradient arrives: Square has no path to look at"


def check(scene: Scene, main: Main) -> Iterator[Check]:
    yield unbounded(scene)
    yield grey(scene)
    yield monotone(scene)
    yield doubled(scene, main)
    yield late(scene, main)
    yield silent(scene, main)
    yield binarized.check(scene)
    yield selftest.check(scene)


def _attack(scene: Scene, steps: int, restarts: int = 1) -> Attack:
    return climb(steps, restarts) if scene.gradients else Square(queries=scene.effort.queries)


def unbounded(scene: Scene) -> Check:
    """13: without any bound the attack wins everywhere, or it is the attack that is broken."""
    share = LEFT_GUARDED if scene.guarded else LEFT
    allowed = max(int(share * scene.n), scene.limit)
    open_ = scene.threat.unbounded(scene.x)
    first = ~scene.broken(_attack(scene, scene.effort.steps, 2), threat=open_)
    look = stay(scene, first, threat=open_, enough=allowed)
    value = 1 - float(first.float().mean())
    said = _stood(first, look)
    limit = f"fails if > {allowed} rows stay at the second look"
    fails = int(look.stuck.sum()) > allowed
    return Check(13, "unbounded attack", CONVERGED, value, limit, "fail" if fails else "pass", said)


def grey(scene: Scene) -> Check:
    """14: at L∞ eps of half the box every input can be made the same grey one, so no classifier is
    right more often than on one of K classes (Carlini et al. 2019)."""
    name = "half the box"
    if scene.guarded:
        return absent(14, name, CONVERGED, "a guard may rightly reject a grey image")
    low, high = scene.threat.box
    wide = LpBall("linf", (high - low) / 2, scene.threat.box, scene.threat.goal)
    left = ~scene.broken(_attack(scene, scene.effort.steps, 2), threat=wide)
    chance = float(scene.y.bincount().max()) / scene.n  # what one answer for all gets right
    most = chance + 3 * (chance * (1 - chance) / scene.n) ** 0.5
    allowed = max(int(most * scene.n), scene.limit)
    look = stay(scene, left, threat=wide, enough=allowed)
    value = float(left.float().mean())
    said = _stood(left, look)
    limit = f"fails if > {allowed} rows stay at the second look: the largest class + 3 sigma"
    fails = int(look.stuck.sum()) > allowed
    return Check(14, name, CONVERGED, value, limit, "fail" if fails else "pass", said)


def _stood(first: Tensor, look: Look) -> str:
    said = f"{int(first.sum())} of {len(first)} rows stood"
    again = int(look.at.sum())
    return f"{said}, {int(look.stuck.sum())} of {again} at a second look" if again else said


def monotone(scene: Scene) -> Check:
    """15: a row that falls at a radius falls at every larger one (Athalye et al. 2018)."""
    name, limit = (
        "success over eps",
        f"> {REVERSED:.0%} of rows, and > {scene.limit}, reversed warn",
    )
    if not scene.gradients:
        return absent(15, name, CONVERGED, "scores alone: chance decides between radii")
    low, high = scene.threat.box
    before = torch.zeros(scene.n, dtype=torch.bool)
    back = torch.zeros_like(before)
    for factor in _RADII:
        eps = torch.as_tensor(scene.threat.eps) * factor
        if scene.threat.norm == "linf":
            eps = eps.clamp(max=high - low)
        threat = replace(scene.threat, eps=eps if eps.ndim else float(eps))
        now = scene.broken(climb(scene.effort.steps // 2), threat=threat)
        back |= before & ~now
        before |= now
    count = int(back.sum())
    said = f"{count} rows fell at a radius and stood at a larger one"
    warns = count > max(REVERSED * scene.n, scene.limit)
    return Check(15, name, CONVERGED, count / scene.n, limit, "warn" if warns else "pass", said)


def doubled(scene: Scene, main: Main) -> Check:
    """16: twice the steps and a restart change nothing (Carlini et al. 2019)."""
    name = "twice the effort"
    limit = (
        f"> {MORE:.0%} of rows, and > {scene.limit}, broken more warn; so does > {GAIN:.0%} loss"
    )
    left = ~main.broken
    at = left.nonzero()[:, 0]
    if not len(at):
        return Check(16, name, CONVERGED, 0.0, limit, "pass", "every row is broken already")
    attack: Attack = climb(2 * scene.effort.steps, 2)
    if not scene.gradients:
        attack = Square(queries=2 * scene.effort.queries)
    points, y = scene.attacked(attack, at), scene.y[at]
    more = int(scene.won(points, y).sum())
    start = scene.objective(scene.x[at], y)
    short, long = (scene.objective(x, y) - start for x in (main.points[at], points))
    gain = float((long - short).clamp_min(0).sum() / long.abs().sum().clamp_min(1e-12))
    warns = more > max(MORE * scene.n, scene.limit) or (gain > GAIN and len(at) > scene.limit)
    said = f"{more} more rows fell; the margin of {len(at)} rows was climbed {gain:.1%} further"
    return Check(16, name, CONVERGED, more / scene.n, limit, "warn" if warns else "pass", said)


def late(scene: Scene, main: Main) -> Check:
    """17: how much of the way is climbed in the last ten steps, best point so far (IoAF I4)."""
    name, limit = "still climbing at the end", f"> {LATE:.0%} of the way in {_LAST} steps warns"
    if main.path is None:
        return absent(17, name, CONVERGED, _NO_PATH)
    left = ~main.broken
    best = main.path.cummax(0).values[:, left]
    way = best[-1] - best[0]
    moved = way > 1e-6 * best[0].abs()
    if int(moved.sum()) <= scene.limit:
        said = "hardly a row that stands was moved" if bool(left.any()) else "every row is broken"
        return absent(17, name, CONVERGED, said)
    value = float(((best[-1] - best[-1 - _LAST]) / way)[moved].mean())
    said = f"{value:.1%} of the way of {int(moved.sum())} rows that stand"
    return Check(17, name, CONVERGED, value, limit, "warn" if value > LATE else "pass", said)


def silent(scene: Scene, main: Main) -> Check:
    """19: the way led through a winning point, and another was given back (IoAF I3)."""
    name, limit = "a win that was not returned", "any warns"
    if main.path is None:
        return absent(19, name, CONVERGED, _NO_PATH)
    if scene.random:
        return absent(19, name, CONVERGED, "the model answers at random: one win is no win")
    count = int(((main.path > 0).any(0) & ~main.margin).sum())
    said = f"{count} rows won on the way alone"
    return Check(19, name, CONVERGED, count / scene.n, limit, "warn" if count else "pass", said)
