"""Was the deployed thing attacked? Checks 7 and 20."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from buckler.assess.battery.check import DEPLOYED, Check, Mark, absent
from buckler.assess.battery.scene import Main, Scene
from buckler.protocols import Classifier

LOST = 0.01  # of the rows broken in the view (20)
_ASKED = 10


def dynamic(scene: Scene) -> Check:
    """7: the model runs autograd inside its forward: it optimises as it answers, and needs an
    attack of its own (RobustBench's rule 3; Croce et al. 2022, arXiv:2202.13711)."""
    name, limit = "optimisation inside forward", "any warns"
    found = runs_autograd(scene.target.view, scene.x[:4])
    said = "the model takes gradients while it answers" if found else "no gradient is taken inside"
    return Check(7, name, DEPLOYED, float(found), limit, "warn" if found else "pass", said)


def runs_autograd(view: Classifier, x: Tensor) -> bool:
    """Whether a forward without gradients runs a backward pass all the same."""
    seen: list[bool] = []

    def unpack(tensor: Tensor) -> Tensor:
        seen.append(True)
        return tensor

    with torch.no_grad(), saved_tensors_hooks(lambda tensor: tensor, unpack):
        view(x)
    return bool(seen)


def same(scene: Scene, main: Main) -> Check:
    """20: points that win in the attackers' view, and not when the deployed system is asked, the
    same bytes (IoAF I5). On a grid of levels the loss is told, and is the attack's own affair."""
    name = "view against the deployed system"
    limit = f"> {LOST:.0%} of the wins, and > {scene.limit}, lost fails"
    at = main.margin.nonzero()[:, 0]
    if not len(at):
        return absent(20, name, DEPLOYED, "the main attack won nowhere")
    points, y = main.points[at], scene.y[at]
    lost = int((~_wins(scene, points, y)).sum())
    said = f"{lost} of {len(at)} wins are lost on the deployed system"
    if scene.target.spec.levels:
        rounded = int((~_wins(scene, scene.target.spec.snap(points), y)).sum())
        said += f", {rounded} once rounded to a file's {scene.target.spec.levels} levels"
    over = lost > max(LOST * len(at), scene.limit)
    mark: Mark = "pass" if not over else "warn" if scene.random else "fail"
    return Check(20, name, DEPLOYED, lost / len(at), limit, mark, said)


def _wins(scene: Scene, x_adv: Tensor, y: Tensor) -> Tensor:
    """(n,) bool: accepted and wrong, in most answers of a random system."""
    times = _ASKED if scene.random else 1
    wins = torch.zeros(len(y))
    for _ in range(times):
        predicted, accepted = scene.target.answer(x_adv)
        wins += (accepted & (predicted != y)).float()
    return wins > times / 2


def check(scene: Scene, main: Main) -> Iterator[Check]:
    yield dynamic(scene)
    yield same(scene, main)
