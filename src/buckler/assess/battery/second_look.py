"""Rows that another attack broke get a second look: one lucky row condemns nothing."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from buckler.assess.battery.scene import Scene, climb
from buckler.attacks import APGD, OrthogonalPGD, Square
from buckler.protocols import Attack
from buckler.threats import LpBall

_TOGETHER = 16  # rows that are looked at at once


@dataclass(frozen=True)
class Look:
    """(n,) bool each: the rows looked at, and those that stay unbroken."""

    at: Tensor
    stuck: Tensor


def stay(
    scene: Scene,
    rows: Tensor,
    *,
    loss: str = "selective",
    threat: LpBall | None = None,
    enough: int | None = None,
) -> Look:
    """Which of the rows (n,) bool stay unbroken by the white-box attack with ten times the steps,
    ten restarts (`Effort.again`), the margin and each of the nearest classes as a target.

    Args:
        loss: "ce": cross entropy alone, for the question whether it saturates.
        enough: stop once more rows than this stay, or no more can.
    """
    stuck, looked = torch.zeros_like(rows), torch.zeros_like(rows)
    enough = scene.limit if enough is None else enough
    for at in rows.nonzero()[:, 0].split(_TOGETHER):
        count = int(stuck.sum())
        if count > enough or count + int((rows & ~looked).sum()) <= enough:
            break
        left = torch.zeros_like(stuck)
        left[at] = True
        for attack in longer(scene, loss):
            left &= ~scene.broken(attack, left, threat)
        stuck |= left
        looked[at] = True
    return Look(looked, stuck)


def longer(scene: Scene, loss: str) -> tuple[Attack, ...]:
    """The white-box attack with much more effort, cheapest first."""
    effort, goal, again = scene.effort, scene.threat.goal, scene.effort.again
    if not scene.gradients:
        return (Square(queries=again * effort.queries),)
    long = climb(again * effort.steps, again, loss)
    if loss == "ce":
        return (long,)
    if goal.kind == "guarded":
        orthogonal = OrthogonalPGD(steps=again * effort.steps)
        return (long,) if scene.threat.norm == "l1" else (long, orthogonal)
    short = climb(effort.steps, again, loss)
    targeted = APGD(steps=100, loss="pair", targets=9, name="targeted")
    return (replace(short, random_start=True), targeted, long)
