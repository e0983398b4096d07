"""Check 23: models made to have an adversarial point around each row; the attack must find it."""

from dataclasses import replace

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from buckler import draws
from buckler.assess.battery.check import CONVERGED, Check, absent
from buckler.assess.battery.scene import Scene, climb
from buckler.attacks.engine import logits_of
from buckler.protocols import Classifier
from buckler.threats import Goal, LpBall

FOUND = 0.95  # of the rows
_INNER, _FAR = 128, 0.75  # points that keep their class, within this share of eps
_TRIES = 200  # random points: where they win too, the task says nothing


def check(scene: Scene) -> Check:
    """The active test of Zimmermann et al. 2022 (arXiv:2206.13991): for each row a linear readout
    that tells points near x from one point at the ball's edge, so that a win is sure to exist.

    Deviations: it reads the logits, all that a view shows; rows that no line parts, and those where
    random points win as well, are left out and counted.
    """
    name, limit = "a win that is known to exist", f"found for < {FOUND:.0%} fails"
    if not scene.gradients:
        return absent(23, name, CONVERGED, "no gradient arrives")
    if scene.random:
        return absent(23, name, CONVERGED, "the model answers at random: no point is sure to win")
    attack, found, tried, easy = climb(scene.effort.steps), 0, 0, 0
    for row in range(min(scene.n, scene.effort.points)):
        at = torch.tensor([row])
        made = _readout(scene, at)
        if made is None:
            continue
        x, zero = scene.x[at], torch.zeros(1, dtype=torch.int64)
        threat = scene.threat.take(at).with_goal(Goal())
        many = at.repeat(_TRIES)
        tries = threat.take(torch.zeros(_TRIES, dtype=torch.int64)).random_point(
            scene.x[many], draws.derive(scene.seed, "tries", row), torch.arange(_TRIES), 0
        )
        if bool((made(tries).argmax(1) == 1).any()):
            easy += 1
            continue
        tried += 1
        x_adv = attack(made, x, zero, threat, seed=scene.seed, rows=at)
        found += int(made(x_adv).argmax(1) == 1)
    if tried <= 2 * scene.limit:
        said = f"only {tried} rows could be made into a task ({easy} were too easy)"
        return absent(23, name, CONVERGED, said)
    rate = found / tried
    said = f"found for {found} of {tried} rows; {easy} more were too easy"
    fails = rate < FOUND and tried - found > scene.limit
    return Check(23, name, CONVERGED, rate, limit, "fail" if fails else "pass", said)


def _readout(scene: Scene, at: Tensor) -> Classifier | None:
    """Two logits from the view's: class 1 exactly beyond the line that parts one point at the edge
    from _INNER within; None where no line does."""
    x, threat = scene.x[at], scene.threat.take(at)
    ids = torch.arange(_INNER)
    seed = draws.derive(scene.seed, "binarized", int(at))
    inner = (
        _scaled(threat, _FAR)
        .take(ids * 0)
        .random_point(x.expand(_INNER, *x.shape[1:]), seed, ids, 0)
    )
    edge = _edge(scene, x, threat, seed)
    outputs = logits_of(scene.view, torch.cat([x, inner, edge])).double()
    middle, spread = outputs.mean(0), outputs.std(0).clamp_min(1e-9)
    z = ((outputs - middle) / spread).numpy()
    labels = np.array([0] * (1 + _INNER) + [1])
    fit = LogisticRegression(C=1e4, max_iter=2000, class_weight="balanced").fit(z, labels)
    scores = z @ fit.coef_[0]
    if scores[-1] <= scores[:-1].max() + 1e-6:
        return None
    border = scores[:-1].max() + 0.9 * (scores[-1] - scores[:-1].max())
    weight = torch.from_numpy(fit.coef_[0]) / spread
    scale = 1.0 / max(1e-9, float(scores[-1] - scores[0]))

    def readout(points: Tensor) -> Tensor:
        score = ((scene.view(points).double() - middle) @ weight - border) * scale
        return torch.stack([-score, score], 1).to(points)

    return readout


def _scaled(threat: LpBall, share: float) -> LpBall:
    eps = torch.as_tensor(threat.eps) * share
    return replace(threat, eps=eps if eps.ndim else float(eps))


def _edge(scene: Scene, x: Tensor, threat: LpBall, seed: int) -> Tensor:
    """(1, ...) a corner of the ball at random, projected into the box."""
    noise = draws.normal(
        draws.derive(seed, "edge"), torch.zeros(1, dtype=torch.int64), 0, tuple(x.shape[1:])
    )
    step = threat.steepest(noise.to(x))
    eps = torch.as_tensor(threat.eps).reshape(-1, *[1] * (x.ndim - 1))
    return threat.project(x, x + eps * step)
