"""Does a gradient arrive? Checks 1, 2, 4 and 25."""

from collections.abc import Iterator

import torch
from torch import Tensor

from buckler.assess.battery.check import ARRIVES, Check, Mark, absent
from buckler.assess.battery.scene import Scene
from buckler.attacks.engine import logits_of
from buckler.errors import UsageError
from buckler.losses import cross_entropy, margin
from buckler.models.module import looks_like_probabilities

ZERO = 0.05  # of the rows (2)
PARITY = 0.02  # of the rows (25)
_BLIND = "no gradient arrives: attacked by scores and answers alone"


def reaches(scene: Scene) -> Check:
    """1: the graph from logits to input is whole, and its gradient a number (IoAF I1, Pintor et
    al. 2022, arXiv:2106.09947)."""
    name, limit = "graph break", "any fails"
    if not scene.gradients:
        return absent(1, name, ARRIVES, _BLIND)
    try:
        scene.slope(margin)
    except (UsageError, RuntimeError) as error:
        return Check(1, name, ARRIVES, 1.0, limit, "fail", str(error).splitlines()[0][:120])
    return Check(1, name, ARRIVES, 0.0, limit, "pass", "a finite gradient reaches the input")


def zeros(scene: Scene) -> Check:
    """2: rows whose gradient is exactly zero, the worse of cross entropy and margin."""
    name, limit = "zero gradients", f"any warns, > {ZERO:.0%} of rows fails"
    if not scene.gradients:
        return absent(2, name, ARRIVES, _BLIND)
    count = {
        loss.__name__.replace("_", " "): int((scene.slope(loss)[0].flatten(1) == 0).all(1).sum())
        for loss in (cross_entropy, margin)
    }
    worst = max(count.values()) / scene.n
    mark: Mark = "fail" if worst > ZERO else "warn" if worst > 0 else "pass"
    said = ", ".join(f"{k} rows on the {loss}" for loss, k in count.items())
    return Check(2, name, ARRIVES, worst, limit, mark, said)


def flat(scene: Scene) -> bool:
    """Whether no row has a slope to climb, not even on the margin: the graph might as well be cut,
    and ten times the steps from a point that never moves tell nothing."""
    return bool((scene.slope(margin)[0] == 0).all())


def probabilities(scene: Scene) -> Check:
    """4: outputs that are probabilities already: gradients vanish through the softmax."""
    name, limit = "probabilities instead of logits", "rows in [0, 1] that sum to 1 warn"
    if not scene.gradients:
        return absent(4, name, ARRIVES, _BLIND)
    found = looks_like_probabilities(logits_of(scene.view, scene.x))
    said = "the model ends in a softmax: attack what comes before it" if found else "logits"
    return Check(4, name, ARRIVES, float(found), limit, "warn" if found else "pass", said)


def parity(scene: Scene) -> Check:
    """25: answers that hinge on the input's last bits. Rows whose class changes when x is rounded
    to float16; logits that are not finite never come as far as this."""
    name, limit = "answers hang on last bits", f"> {PARITY:.0%} of rows, and > 3, warn"
    if scene.random:
        return absent(25, name, ARRIVES, "the model answers at random: see chance")
    changed = int((_answer(scene, scene.x.half().to(scene.x)) != _answer(scene, scene.x)).sum())
    warns = changed > max(PARITY * scene.n, 3)
    said = f"{changed} of {scene.n} rows answer otherwise once rounded to float16"
    mark: Mark = "warn" if warns else "pass"
    return Check(25, name, ARRIVES, changed / scene.n, limit, mark, said)


def _answer(scene: Scene, x: Tensor) -> Tensor:
    with torch.no_grad():
        return logits_of(scene.view, x.clamp(*scene.threat.box)).argmax(1)


def check(scene: Scene) -> Iterator[Check]:
    """2, 4 and 25; what comes of 1 and 2 decides how the rest is attacked."""
    yield zeros(scene)
    yield probabilities(scene)
    yield parity(scene)
