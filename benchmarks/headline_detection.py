"""The guard as a detector: what it catches of attacks that know nothing of it, at which price."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.headline_attacks import drawn
from buckler import draws
from buckler.assess.target import Target
from buckler.attacks import PGD, Transfer
from buckler.data import Dataset, Split
from buckler.guard import Guard
from buckler.protocols import Attack, Classifier, Threat
from buckler.stats import conformal_threshold, wilson
from buckler.threats import LpBall

Json = dict[str, Any]
_RESPLITS = 20
_FPR = 0.01


def suspicion(view: Classifier, x: Tensor) -> np.ndarray:
    """The combined score less its threshold, (n,), as the attack view shows it."""
    found = []
    with torch.no_grad():
        for part in x.split(500):
            logits = view(part)
            found.append(logits[:, -1] - logits[:, :-1].amax(1))
    return torch.cat(found).double().numpy()


def measured(
    guards: Mapping[str, Guard],
    data: Dataset,
    standard: nn.Module,
    surrogate: nn.Module,
    eps: Sequence[float],
) -> Json:
    """Realised review rates of "guard" over re-splits of calibrate and verify, and the share of
    attacks on the undefended net that each of the guards sends to review at 1 % of clean inputs."""
    guard = guards["guard"]
    clean = _clean(guard, data)
    cut = len(data["calibrate"])
    target = guard.rule.calibration.target  # type: ignore[attr-defined]
    realised = []
    for split in range(_RESPLITS):
        order = draws.permutation(draws.derive(0, "re-split"), split, len(clean)).numpy()
        limit = conformal_threshold(clean[order[:cut]].tolist(), target).value
        realised.append(float((clean[order[cut:]] > limit).mean()))
    views = {name: each.attack_view() for name, each in guards.items()}
    limits = {
        name: float(np.quantile(_clean(each, data), 1 - _FPR)) for name, each in guards.items()
    }
    rows = drawn(data["test"], 1000, 1)
    x, y = data["test"].x[rows], data["test"].y[rows]
    caught = []
    for radius in eps:
        threat = LpBall("linf", radius)
        attacks: list[tuple[str, Attack, nn.Module]] = [
            ("PGD", PGD(steps=40, step_size=0.1, loss="margin", stop=False), standard),
            ("transfer", Transfer((surrogate,)), standard),
        ]
        for name, attack, source in attacks:
            x_adv = attack(source, x, y, threat)
            with torch.no_grad():
                fools = (standard(x_adv).argmax(1) != y) & (standard(x).argmax(1) == y)
            if not bool(fools.any()):
                continue
            for system, view in views.items():
                hits = suspicion(view, x_adv[fools]) > limits[system]
                with torch.no_grad():
                    answer = view(x_adv[fools])[:, :-1].argmax(1)
                stopped = hits | (answer == y[fools]).numpy()
                caught.append(
                    {
                        "system": system,
                        "attack": name,
                        "eps": radius,
                        "fooling": int(fools.sum()),
                        "caught": vars(wilson(int(hits.sum()), len(hits))),
                        "stopped": vars(wilson(int(stopped.sum()), len(hits))),
                    }
                )
    verify = suspicion(views["guard"], data["verify"].x) > 0
    return {
        "target": target,
        "realised_mean": float(np.mean(realised)),
        "realised": realised,
        "verify": vars(wilson(int(verify.sum()), len(verify))),
        "n": [cut, len(clean) - cut],
        "caught_at_1_percent": caught,
    }


def _clean(guard: Guard, data: Dataset) -> np.ndarray:
    view = guard.attack_view()
    return np.concatenate([suspicion(view, data[name].x) for name in ("calibrate", "verify")])


def reviewed(
    target: Target, source: Target, split: Split, rows: Tensor, threat: Threat, attack: Attack
) -> Json:
    """The share of points made for `source` that `target` sends to review."""
    x, y = split.x[rows], split.y[rows]
    x_adv = attack(source.view, x, y, threat.take(rows), rows=rows)
    _, accepted = target.answer(x_adv)
    return vars(wilson(int((~accepted).sum()), len(rows)))
