"""Rows that another attack broke get a second look: one lucky row condemns nothing."""

from dataclasses import replace

import torch
from torch import Tensor

from buckler.assess.battery.scene import Scene, climb
from buckler.attacks import APGD, OrthogonalPGD, Square
from buckler.protocols import Attack
from buckler.threats import LpBall

_TOGETHER = 16  # rows that are looked at at once


def stay(
    scene: Scene,
    rows: Tensor,
    *,
    loss: str = "selective",
    threat: LpBall | None = None,
    enough: int | None = None,
) -> Tensor:
    """Which of the rows (n,) bool stay unbroken by the white-box attack with ten times the steps,
    ten restarts (`Effort.again`), the margin and each of the nearest classes as a target.

    Args:
        loss: "ce": cross entropy alone, for the question whether it saturates.
        enough: stop once more rows than this stay; rows that were not looked at do not count.
    """
    stuck = torch.zeros(scene.n, dtype=torch.bool)
    enough = scene.limit if enough is None else enough
    for at in rows.nonzero()[:, 0].split(_TOGETHER) if bool(rows.any()) else ():
        left = torch.zeros_like(stuck)
        left[at] = True
        for attack in longer(scene, loss):
            left &= ~scene.broken(attack, left, threat)
        stuck |= left
        if int(stuck.sum()) > enough:
            break
    return stuck


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
