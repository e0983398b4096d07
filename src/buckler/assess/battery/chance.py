"""Is chance handled? Checks 5 and 6."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from buckler.assess.battery.check import CHANCE, Check, absent
from buckler.assess.battery.scene import Scene, climb, varies
from buckler.assess.battery.still import Still

SPREAD = 1e-4  # of the largest logit (5)
DROP = 0.05  # of the rows (6)
_PLACES = 128  # rows that share one batch from first to last


def randomness(scene: Scene) -> Check:
    """5: the same input gets other logits: only the mean over draws can be attacked, and only
    figures over many draws mean anything (AutoAttack's flag, arXiv:2003.01690)."""
    spread = varies(scene.target.view, scene.x)
    warns = spread > SPREAD or scene.random
    said = (
        f"logits change by {spread:.1%} from call to call; the battery attacked their mean"
        if warns
        else "five answers to the same rows are the same"
    )
    limit = f"relative change > {SPREAD:g}, or keyed draws, warn"
    return Check(5, "randomness", CHANCE, spread, limit, "warn" if warns else "pass", said)


def fixed(scene: Scene) -> Check:
    """6: with its draws fixed a random model must fall as easily as the undefended one (Carlini et
    al. 2019, arXiv:1902.06705)."""
    name = "attack with draws fixed"
    limit = f"success > {DROP:.0%} under the undefended model's warns"
    if not scene.random:
        return absent(6, name, CHANCE, "nothing is drawn")
    if not scene.gradients or scene.undefended is None:
        return absent(6, name, CHANCE, "there is no undefended model to compare with")
    still = Still(scene.target.view, scene.seed)
    if varies(still, scene.x) > SPREAD:
        return absent(6, name, CHANCE, "its draws are not torch's own: they cannot be fixed")
    attack = replace(climb(scene.effort.steps), stop=False)  # a row's draws hang on its place
    some = torch.arange(scene.n) < _PLACES
    alone = (replace(scene, view=m, random=False) for m in (still, scene.undefended.view))
    rates = [float(each.broken(attack, some)[some].float().mean()) for each in alone]
    drop = rates[1] - rates[0]
    said = f"success {rates[0]:.1%} with draws fixed, {rates[1]:.1%} on the undefended model"
    return Check(6, name, CHANCE, drop, limit, "warn" if drop > DROP else "pass", said)


def check(scene: Scene) -> Iterator[Check]:
    yield randomness(scene)
    yield fixed(scene)
