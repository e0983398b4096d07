"""How a model stands unattacked: recall at a capacity, and what good customers bear."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from buckler.errors import DataError, UsageError
from buckler.models.alerts import base_rate_weights
from buckler.protocols import Classifier
from buckler.stats import Rate, wilson

_NEARLY_ALL = 0.5  # of the good customers


@dataclass(frozen=True)
class Standing:
    """On rows that trained nothing and set no threshold.

    recall: alerts / frauds. false_positives: alerts / good customers. precision: frauds / alerts at
    the base rate, with the ends that recall and false positives allow. alerts, delayed: alerts and
    good customers among them a week, at `volume` applications a week. auc: of the scores.
    """

    recall: Rate
    false_positives: Rate
    base_rate: float
    volume: float
    auc: float

    @property
    def precision(self) -> tuple[float, float, float]:
        """(value, low, high)."""
        r, f = self.recall, self.false_positives
        ends = ((r.value, f.value), (r.low, f.high), (r.high, f.low))
        value, low, high = (self._precise(*end) for end in ends)
        return value, low, high

    def _precise(self, recall: float, false_positives: float) -> float:
        right = self.base_rate * recall
        every = right + (1 - self.base_rate) * false_positives
        return right / every if every else math.nan

    @property
    def delayed(self) -> float:
        """Good customers a week who are held up."""
        return self.volume * (1 - self.base_rate) * self.false_positives.value

    @property
    def alerts(self) -> float:
        """A week, frauds and good customers."""
        return self.delayed + self.volume * self.base_rate * self.recall.value

    @property
    def says_fraud(self) -> bool:
        """It calls nearly everything fraud: whatever robustness it shows is that, and nothing."""
        return self.false_positives.value > _NEARLY_ALL

    def __str__(self) -> str:
        if self.says_fraud:
            return (
                f"says fraud to {self.false_positives.value:.0%} of good customers: its "
                "robustness is worth nothing"
            )
        return (
            f"catches {self.recall.value:.1%} of frauds and holds up "
            f"{self.false_positives.value:.1%} of good customers"
        )


def standing(
    model: Classifier, x: Tensor, y: Tensor, *, base_rate: float, volume: float
) -> Standing:
    """Of a classifier that answers 1 for an alert, on x (n, width), y (n,).

    Args:
        base_rate: share of frauds in all applications; the sample's own does not matter.
        volume: applications a week.
    """
    from sklearn.metrics import roc_auc_score

    base_rate_weights(y, base_rate)  # refuses rates and samples that cannot be
    if not volume > 0:
        raise UsageError(f"volume must be applications a week, above 0. Got {volume}")
    logits = model(x).detach()
    alerts, fraud = logits.argmax(1) == 1, y == 1
    return Standing(
        recall=wilson(int((alerts & fraud).sum()), int(fraud.sum())),
        false_positives=wilson(int((alerts & ~fraud).sum()), int((~fraud).sum())),
        base_rate=base_rate,
        volume=volume,
        auc=float(roc_auc_score(y.numpy(), (logits[:, 1] - logits[:, 0]).numpy())),
    )


def out_of_time(when: Sequence[Any], first: Any) -> tuple[Tensor, Tensor]:
    """Indices of the rows before `first`, and of those from then on: a model of fraud is judged on
    what came after it was trained, never on a random part.

    Raises: DataError if one of the two is empty.
    """
    later = np.asarray(when) >= first
    if later.all() or not later.any():
        raise DataError(
            f"a split in time needs rows before {first!r} and from then on. "
            f"Got {int((~later).sum())} and {int(later.sum())}"
        )
    return torch.from_numpy(np.flatnonzero(~later)), torch.from_numpy(np.flatnonzero(later))


def error_rates(
    models: dict[str, Classifier], x: Tensor, y: Tensor, group: Sequence[str]
) -> list[dict[str, Any]]:
    """For each group of a sensitive column the false positives and misses of each model; `moved`
    where hardening moves either beyond both intervals.

    Args:
        models: the ordinary one first, the hardened one second.
    """
    if len(models) != 2:
        raise UsageError(f"error rates are compared between 2 models. Got {len(models)}")
    answers = {name: model(x).argmax(1) == 1 for name, model in models.items()}
    names, found = np.asarray(group), []
    for each in sorted(set(names.tolist())):
        inside = torch.from_numpy(names == each)
        rates = {}
        for name, alerts in answers.items():
            rates[name] = tuple(
                wilson(int((wrong & part).sum()), int(part.sum())) if bool(part.any()) else None
                for wrong, part in ((alerts, inside & (y == 0)), (~alerts, inside & (y == 1)))
            )
        before, after = rates.values()
        moved = any(
            a is not None and b is not None and (a.low > b.high or b.low > a.high)
            for a, b in zip(before, after, strict=True)
        )
        found.append({"group": each, "rates": rates, "moved": moved})
    return found
