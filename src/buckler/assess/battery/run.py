"""The battery: is this evaluation to be believed?"""

import time
from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor

from buckler.assess.battery import arrives, chance, converged, deployed, others, true
from buckler.assess.battery.check import Battery, Check
from buckler.assess.battery.naive import naive_test
from buckler.assess.battery.scene import Effort, Scene, main_attack, set_up
from buckler.assess.target import Target
from buckler.errors import UsageError
from buckler.protocols import Progress
from buckler.threats import LpBall

_ALL = 25
_COSTLY = {3: 6, 9: 20, 10: 25, 11: 15, 12: 8, 15: 7, 16: 7, 23: 6}
"""By number: how many times a cheap check's cost, roughly, the attack before 3 counted with it."""


def battery(
    target: Target,
    x: Tensor,
    y: Tensor,
    threat: LpBall,
    *,
    effort: Effort | None = None,
    seed: int = 0,
    undefended: Target | None = None,
    progress: Progress | None = None,
) -> Battery:
    """The checks on what was attacked, 1 to 25, on x (n, ...), y (n,); the report adds 26 to 28.

    A gradient's size says nothing: it depends on the loss, the scale of the logits and the batch,
    and honest robust nets have small ones. These are signs of behaviour (Athalye et al. 2018,
    arXiv:1802.00420; Carlini et al. 2019, arXiv:1902.06705; Croce and Hein 2020, arXiv:2003.01690;
    Pintor et al. 2022, arXiv:2106.09947; Zimmermann et al. 2022, arXiv:2206.13991), and the verdict
    is on the evaluation. Whatever another attacker breaks gets a second look.

    Args:
        undefended: the model before it was defended: a twin to transfer from, and what a random
            defence is compared with once its draws are fixed. None: a twin is distilled.
        progress: called with (shares done, all), by what checks usually cost.

    Raises: UsageError for a threat that is no ball, or if the target gets none of the rows right.
    """
    if not isinstance(threat, LpBall):
        raise UsageError(f"the battery needs an L-infinity, L2 or L1 ball. Got {threat}")
    started = time.perf_counter()
    scene = set_up(target, x, y, threat, effort or Effort(), seed, undefended)
    checks: list[Check] = []
    for check in _looked(scene):
        checks.append(check)
        if progress is not None:
            progress(*_passed(checks))
    naive = naive_test(scene.view, scene.x, scene.y)
    return Battery(scene.n, tuple(checks), naive, time.perf_counter() - started)


def _looked(scene: Scene) -> Iterator[Check]:
    """The checks in the order of their questions, each once it is done."""
    whole = arrives.reaches(scene)
    yield whole
    if whole.mark == "fail":  # what is left is scores and answers, as where there is no gradient
        scene = replace(scene, gradients=False)
    yield from arrives.check(scene)
    if scene.gradients and arrives.flat(scene):
        scene = replace(scene, gradients=False)
    main = main_attack(scene)
    yield from true.check(scene, main)
    yield from converged.check(scene, main)
    yield from others.check(scene, main)
    yield from chance.check(scene)
    yield from deployed.check(scene, main)


def _passed(checks: list[Check]) -> tuple[int, int]:
    every = _ALL + sum(_COSTLY.values())
    return len(checks) + sum(_COSTLY.get(check.number, 0) for check in checks), every
