"""The battery: is this evaluation to be believed?"""

import time
from dataclasses import replace

from torch import Tensor

from buckler.assess.battery import arrives, chance, converged, deployed, others, true
from buckler.assess.battery.check import Battery
from buckler.assess.battery.naive import naive_test
from buckler.assess.battery.scene import Effort, main_attack, set_up
from buckler.assess.target import Target
from buckler.errors import UsageError
from buckler.threats import LpBall


def battery(
    target: Target,
    x: Tensor,
    y: Tensor,
    threat: LpBall,
    *,
    effort: Effort | None = None,
    seed: int = 0,
    undefended: Target | None = None,
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

    Raises: UsageError for a threat that is no ball, or if the target gets none of the rows right.
    """
    if not isinstance(threat, LpBall):
        raise UsageError(f"the battery needs an L-infinity, L2 or L1 ball. Got {threat}")
    started = time.perf_counter()
    scene = set_up(target, x, y, threat, effort or Effort(), seed, undefended)
    whole = arrives.reaches(scene)
    if whole.mark == "fail":  # what is left is scores and answers, as where there is no gradient
        scene = replace(scene, gradients=False)
    main = main_attack(scene)
    checks = (
        whole,
        *arrives.check(scene),
        *true.check(scene, main),
        *converged.check(scene, main),
        *others.check(scene, main),
        *chance.check(scene),
        *deployed.check(scene, main),
    )
    naive = naive_test(scene.view, scene.x, scene.y)
    return Battery(scene.n, checks, naive, time.perf_counter() - started)
