"""Which rows a booster holds, which it does not, each with its proof: a bound, or a row."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.models.alerts import Alerting
from buckler.models.boosting import LightGBMClassifier, XGBoostClassifier
from buckler.models.worst import WorstCase
from buckler.protocols import Progress
from buckler.threats.features import FeatureSpec, FeatureThreat
from buckler.threats.features.legal import legal
from buckler.threats.features.repair import repair
from buckler.threats.features.room import box
from buckler.verdict import TreeCertificate

Booster = XGBoostClassifier | LightGBMClassifier


@dataclass(frozen=True)
class Decisions:
    """One certificate a row, and x_adv (n, width): a row that gets through where there is one, else
    the row itself."""

    certificates: list[TreeCertificate]
    x_adv: Tensor

    @property
    def decided(self) -> float:
        """The share of rows that are certified or evadable."""
        open_ = sum(each.abstained and not each.evadable for each in self.certificates)
        return 1 - open_ / len(self.certificates) if self.certificates else 1.0


def decide(
    model: Booster | Alerting,
    x: Tensor,
    y: Tensor,
    threat: FeatureThreat,
    *,
    known: Tensor | None = None,
    steps: int = 200_000,
    tries: int = 50,
    progress: Progress | None = None,
) -> Decisions:
    """Certified or evadable, row by row: dtai-veritas looks for the worst leaf of every tree inside
    the box of what the budget lets each column do (`room.box`).

    The box is wider than the threat, so a row is certified only if nothing in the box changes its
    answer, and evadable only if a row that the threat contains does. What an attack has found
    already is handed over as `known`, (n, width); it decides at once.

    Args:
        model: a binary booster, or its Alerting.
        y: (n,) the true labels; a row that is wrong as it stands is evadable for nothing.
        steps: of the search, a row; then it stays open.
        tries: finds a row that are mended and shown to the model.
    """
    alerting = model if isinstance(model, Alerting) else Alerting(model)
    booster, threshold = alerting.model, alerting.threshold
    if not isinstance(booster, Booster):
        raise UsageError(
            "certificates of trees need an XGBoost or LightGBM booster. "
            f"Got {type(booster).__name__}"
        )
    worst, x_adv = WorstCase(booster, _whole(threat.spec, x)), x.clone()
    low, high = box(threat, x)
    answers = model(x).argmax(1)
    if known is not None:
        won = threat.contains(x, known) & (model(known).argmax(1) != y)
        x_adv[won] = known[won]
    certificates = []
    for row in range(len(x)):
        one, label = threat.take(torch.tensor([row])), int(y[row])
        evaded, exhausted = bool((x_adv[row] != x[row]).any()) or int(answers[row]) != label, False
        if not evaded:
            outcome = worst.beyond(low[row], high[row], threshold, label == 1, steps)
            for tried, found in enumerate(outcome.found()):
                candidate = _nearest(one, x[row : row + 1], found)
                if candidate is not None and int(model(candidate).argmax(1)) != label:
                    x_adv[row], evaded = candidate[0], True
                if evaded or tried + 1 >= tries:
                    break
            exhausted = outcome.exhausted and not evaded and not outcome.search.num_solutions()
        spent = float(one.distance(x[row : row + 1], x_adv[row : row + 1])) if evaded else None
        certificates.append(TreeCertificate(label if exhausted else None, str(one), evaded, spent))
        if progress is not None:
            progress(row + 1, len(x))
    return Decisions(certificates, x_adv)


def _whole(spec: FeatureSpec, x: Tensor) -> list[bool]:
    """Which columns hold whole numbers alone. Raises: UsageError if x (n, width) says otherwise."""
    whole = [
        each.kind == "integer" or bool(each.levels and isinstance(each.levels[0], str))
        for each in spec.features
        for _ in range(each.wide)
    ]
    if any(bool((x[:, at] != x[:, at].round()).any()) for at, flag in enumerate(whole) if flag):
        raise UsageError("columns of whole numbers must hold whole numbers")
    return whole


def _nearest(
    threat: FeatureThreat, x: Tensor, found: dict[int, tuple[float, float]]
) -> Tensor | None:
    """The row of the found box nearest to x (1, width), mended, if the threat contains it."""
    asked = x.clone()
    for column, (low, high) in found.items():
        value = float(x[0, column])
        if not low <= value < high:
            below = torch.nextafter(torch.tensor(high), torch.tensor(-torch.inf))
            asked[0, column] = low if value < low else float(below)
    spec, start = threat.spec, threat.spec.decode(x)
    raw = repair(spec, start, spec.decode(asked))
    if not bool(legal(spec, start, raw) & threat.affordable(start, raw)):
        return None
    return spec.encode(raw, like=x)
