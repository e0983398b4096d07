"""What each part of a guard is worth: the figure with that part taken out."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from buckler.assess.parallel import side_by_side
from buckler.assess.run import Assessment, assess
from buckler.assess.target import of_guard
from buckler.attacks import PGD
from buckler.attacks.suites import Suite
from buckler.data import Dataset
from buckler.guard import Guard, calibrate
from buckler.protocols import Progress, Threat
from buckler.stats import sign_test


@dataclass(frozen=True)
class Part:
    """One line: what was taken out, and what is left under attack and on clean inputs.

    pays: whether the guard as a whole lets fewer past than without this part, on the same rows, by
        more than chance (a sign test at one in twenty, on the rows where they differ).
    """

    removed: str
    found: Assessment
    worse: int
    better: int
    pays: bool

    def to_dict(self) -> dict[str, object]:
        rates = {name: asdict(rate) for name, rate in self.found.ledger.rates().items()}
        return {
            "removed": self.removed,
            "rates": rates,
            "worse": self.worse,
            "better": self.better,
            "pays": self.pays,
        }


def variants(guard: Guard, data: Dataset) -> list[tuple[str, Guard]]:
    """The guard without each of its parts, calibrated anew to the same review rate: a detector
    (with its views), a member, a transform of the path."""
    members = [member.module for member in guard.members]
    detectors = [detector.name for detector in guard.detectors]
    rate = guard.rule.calibration.target  # type: ignore[attr-defined]
    by_class = bool(guard.rule.by_class)  # type: ignore[attr-defined]

    def rebuilt(**changes: object) -> Guard:
        parts: dict[str, object] = {
            "members": members,
            "weights": guard.weights,
            "views": guard.views,
            "path": guard.path,
            "detectors": detectors,
        }
        parts |= changes
        rest = calibrate(data, review_rate=rate, by_class=by_class, **parts)  # type: ignore[arg-type]
        return replace(rest, answering=guard.answering)

    found: list[tuple[str, Callable[[], Guard]]] = []
    for name in detectors:
        rest = [other for other in detectors if other != name]
        views = () if name == "views" else guard.views
        if rest:
            found.append((f"detector {name}", partial(rebuilt, detectors=rest, views=views)))
    for index in range(len(members)):
        rest_of = [i for i in range(len(members)) if i != index]
        kept = detectors if len(rest_of) > 1 else [d for d in detectors if d != "members"]
        if rest_of and kept:
            fewer = [members[i] for i in rest_of]
            shares = [guard.weights[i] for i in rest_of]
            alone = partial(rebuilt, members=fewer, weights=shares, detectors=kept)
            found.append((f"member {index + 1}", alone))
    for index, part in enumerate(guard.path):
        shorter = tuple(p for i, p in enumerate(guard.path) if i != index)
        found.append((f"transform {part.name}", partial(rebuilt, path=shorter)))
    return [(name, build()) for name, build in found]


def ablation(
    guard: Guard,
    data: Dataset,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    *,
    rows: Tensor,
    suite: Suite | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Part]:
    """The guard whole, first, and without each part, all under one adaptive suite (selective PGD
    unless given: a part that does not pay against it pays against nothing stronger)."""
    suite = suite or (PGD(steps=40, step_size=0.25, loss="selective", decay=True, restarts=2),)
    systems = [("nothing", guard), *variants(guard, data)]
    done = []

    def attack(other: Guard) -> Assessment:
        found = assess(of_guard(other), x, y, threat, suite, rows=rows, seed=seed)
        done.append(1)
        if progress is not None:
            progress(len(done), len(systems))
        return found

    found = side_by_side([partial(attack, other) for _, other in systems], workers)
    return [_part(name, found[0], other) for (name, _), other in zip(systems, found, strict=True)]


def _part(name: str, whole: Assessment, other: Assessment) -> Part:
    first, second = _past(whole), _past(other)
    worse, better = int((second & ~first).sum()), int((first & ~second).sum())
    return Part(name, other, worse, better, worse > better and sign_test(better, worse) < 0.05)


def _past(found: Assessment) -> np.ndarray:
    """(n,) bool: a wrong answer was accepted, at first or under attack."""
    ledger = found.ledger
    return np.asarray(ledger.broken | (~ledger.right & ledger.accepted_before))
