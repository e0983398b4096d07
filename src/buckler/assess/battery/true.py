"""Is the gradient true? Checks 3, 18, 21 and 22: does the loss do what its slope promises?"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch

from buckler import draws
from buckler.assess.battery.check import TRUE, Check, Mark, absent
from buckler.assess.battery.scene import Main, Scene, climb
from buckler.assess.battery.second_look import stay
from buckler.attacks.engine import logits_of
from buckler.losses import margin
from buckler.threats.lp import per_row

GAP = 0.05  # of the rows (3)
UNSTABLE = 0.1  # mean relative change of the loss (18)
OFF = 0.3  # of what the slope promises (21)
COSINE = 0.6  # between the gradients at neighbours (22)
_DRAWS = 100
_CALM = 5.0  # logits between the first two classes, once divided (3)
_NEAR = 0.01  # of the box's width
_NO_SLOPE = "no gradient arrives"


def saturation(scene: Scene, main: Main) -> Check:
    """3: PGD on the cross entropy leaves rows that fall to the margin, and to the very same once
    the logits are divided: they saturate it (Carlini and Wagner 2017, arXiv:1608.04644). Rows that
    the margin alone breaks are no sign: it may just be the better loss."""
    name = "saturated cross entropy"
    limit = f"> {GAP:.0%} of rows fails, if > {scene.limit} stay at the second look"
    if not scene.gradients:
        return absent(3, name, TRUE, _NO_SLOPE)
    top = logits_of(scene.view, scene.x).topk(2, dim=1).values
    factor = max(1.0, float((top[:, 0] - top[:, 1]).median()) / _CALM)
    calm = replace(scene, view=lambda x: scene.view(x) / factor)
    extra = main.margin & ~main.ce
    freed = calm.broken(climb(scene.effort.steps, loss="ce"), extra)
    gap = float(freed.float().mean())
    said = f"{int(extra.sum())} rows fell to the margin alone, {int(freed.sum())} of them to "
    said += f"logits / {factor:.3g}"
    stuck = int(stay(scene, freed, loss="ce").stuck.sum()) if gap > GAP else 0
    if gap > GAP:
        said += f"; {stuck} of those looked at twice stay on the cross entropy as it is"
    return Check(3, name, TRUE, gap, limit, "fail" if stuck > scene.limit else "pass", said)


def unstable(scene: Scene) -> Check:
    """18: how much the loss changes over uniform draws around x (IoAF I2)."""
    name, limit = "unstable predictions", f"mean relative change > {UNSTABLE:g} warns"
    low, high = scene.threat.box
    radius = max(_radius(scene, 4 / 255 * (high - low)), scene.grid)
    at = torch.arange(scene.n)
    base = scene.objective(scene.x, scene.y)
    total = torch.zeros(scene.n)
    for draw in range(_DRAWS):
        u = draws.uniform(draws.derive(scene.seed, "around"), at, draw, tuple(scene.x.shape[1:]))
        moved = (scene.x + radius * (2 * u.to(scene.x) - 1)).clamp(low, high)
        change = (scene.objective(moved, scene.y) - base).abs() / base.abs().clamp_min(1e-12)
        total += change.clamp(max=1)
    value = float((total / _DRAWS).mean())
    mark: Mark = "warn" if value > UNSTABLE else "pass"
    said = f"{_DRAWS} draws within {radius:.3g} move the margin by {value:.1%} in the mean"
    return Check(18, name, TRUE, value, limit, mark, said)


def fidelity(scene: Scene) -> Check:
    """21: the margin's change over a short step along its gradient / what the slope promises."""
    name = "first-order fidelity"
    limit = f"median off by > {OFF:g} of what is promised warns"
    if not scene.gradients:
        return absent(21, name, TRUE, _NO_SLOPE)
    grad, logits = scene.slope(margin)
    low, high = scene.threat.box
    size = torch.as_tensor(scene.threat.eps) / 20
    step = per_row(size.clamp_min(scene.grid), grad) * scene.threat.steepest(grad)
    moved = (scene.x + step).clamp(low, high)
    start = scene.x
    if scene.grid:
        start, moved = scene.target.spec.snap(start), scene.target.spec.snap(moved)
    promised = (grad * (moved - start)).flatten(1).sum(1)
    change = scene.objective(moved, scene.y) - scene.threat.goal.objective(logits, scene.y)
    some = promised.abs() > 1e-5 * logits.abs().amax()  # else rounding is all there is to see
    if not bool(some.any()):
        return absent(21, name, TRUE, "the slope promises no change that could be measured")
    ratio = change[some] / promised[some]
    value = float((ratio - 1).abs().median())
    said = (
        f"a short step changes the margin {float(ratio.median()):.2f} times as much as its slope "
    )
    said += f"promises (median), off by {value:.2f}"
    return Check(21, name, TRUE, value, limit, "warn" if value > OFF else "pass", said)


def cosine(scene: Scene) -> Check:
    """22: whether neighbours' gradients point the same way. Never decisive: a decoy turns them
    while PGD still wins."""
    name, limit = "gradients of neighbours", f"mean cosine < {COSINE:g} warns"
    if not scene.gradients:
        return absent(22, name, TRUE, _NO_SLOPE)
    low, high = scene.threat.box
    sigma = max(min(_NEAR * (high - low), _radius(scene, high - low)), scene.grid)
    noise = draws.normal(
        draws.derive(scene.seed, "near"), torch.arange(scene.n), 0, tuple(scene.x.shape[1:])
    )
    near = (scene.x + sigma * noise.to(scene.x)).clamp(low, high)
    here, there = (scene.slope(margin, x)[0].flatten(1) for x in (scene.x, near))
    value = float(torch.nn.functional.cosine_similarity(here, there, dim=1).mean())
    mark: Mark = "warn" if value < COSINE else "pass"
    said = f"cosine {value:.2f} between gradients at x and at noise of {sigma:.3g} beside it"
    return Check(22, name, TRUE, value, limit, mark, said)


def _radius(scene: Scene, most: float) -> float:
    """Half of eps as an L∞ radius, at most `most`; what a ball's corner reaches in each value."""
    eps = float(torch.as_tensor(scene.threat.eps).float().mean())
    size = scene.x[0].numel()
    share: float = {"linf": 1.0, "l2": math.sqrt(size), "l1": float(size)}[scene.threat.norm]
    return min(eps / 2 / share, most)


def check(scene: Scene, main: Main) -> Iterator[Check]:
    yield saturation(scene, main)
    yield unstable(scene)
    yield fidelity(scene)
    yield cosine(scene)
