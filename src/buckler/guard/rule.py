"""How several scores become one score, one threshold, one review rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from buckler.stats import Threshold, conformal_p, conformal_threshold

_KNOTS = 6
_ABOVE = 3  # rows above the last knot, so that no slope hangs on a single one


class Rule(Protocol):
    """SUSPICIOUS exactly where combine(scores) > threshold."""

    @property
    def threshold(self) -> float: ...
    def combine(self, scores: Tensor) -> Tensor: ...
    def anomaly(self, scores: Tensor) -> list[float]: ...
    def reasons(self, scores: Tensor, names: Sequence[str]) -> list[tuple[str, ...]]: ...


@dataclass(frozen=True)
class Calibrated:
    """One combined score, conformally calibrated.

    Each raw score passes a strictly increasing, piecewise linear map to about −log p of held-out
    clean rows, with a linear tail beyond the last knot: no step lies on an attacker's path.
    The combined score is their mean (Fisher's combination). P-values are look-ups for people.

    Arrays: knots (d, m) raw scores, levels (m,) the values there, separate (d, n) sorted scores
    and combined (n,) sorted combined scores of the calibrate split.
    """

    knots: np.ndarray
    levels: np.ndarray
    separate: np.ndarray
    combined: np.ndarray
    calibration: Threshold

    @classmethod
    def fit(cls, select: Tensor, calibrate: Tensor, review_rate: float) -> Self:
        """Args: scores (d, n) on the select split (maps), on the calibrate split (threshold)."""
        knots, levels = _knots(select.double().cpu().numpy())
        combined = np.sort(_combine(calibrate, knots, levels).double().cpu().numpy())
        separate = np.sort(calibrate.double().cpu().numpy(), axis=1)
        threshold = conformal_threshold(combined.tolist(), review_rate)
        return cls(knots, levels, separate, combined, threshold)

    @property
    def threshold(self) -> float:
        return self.calibration.value

    def combine(self, scores: Tensor) -> Tensor:
        return _combine(scores, self.knots, self.levels)

    def anomaly(self, scores: Tensor) -> list[float]:
        """Conformal 1 − p of the combined score, in [0, 1]."""
        return [float(1 - p) for p in conformal_p(self.combined, self.combine(scores).tolist())]

    def reasons(self, scores: Tensor, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The one or two scores with the smallest p, the second only if its p is under 0.1."""
        p = np.stack(
            [conformal_p(self.separate[i], scores[i].tolist()) for i in range(len(names))], 1
        )
        order = p.argsort(1, kind="stable")[:, :2]
        return [
            tuple(names[i] for rank, i in enumerate(best) if rank == 0 or row[i] < 0.1)
            for best, row in zip(order, p, strict=True)
        ]


@dataclass(frozen=True)
class Thresholds:
    """The article's way: flagged where any score lies over its own threshold, set by hand."""

    limits: tuple[float, ...]
    anomaly_index: int

    @property
    def threshold(self) -> float:
        return 0.0

    def combine(self, scores: Tensor) -> Tensor:
        return (scores - scores.new_tensor(self.limits)[:, None]).amax(0)

    def anomaly(self, scores: Tensor) -> list[float]:
        values: list[float] = scores[self.anomaly_index].clamp(0, 1).tolist()
        return values

    def reasons(self, scores: Tensor, names: Sequence[str]) -> list[tuple[str, ...]]:
        over = (scores > scores.new_tensor(self.limits)[:, None]).T.tolist()
        return [tuple(n for n, hit in zip(names, row, strict=True) if hit) for row in over]


def _knots(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Raw scores (d, n) at which the map takes the levels −log p, from p = n/(n + 1) down to where
    three rows lie above.

    Knots that fall together are spread by a hair, so that the map stays strictly increasing.
    """
    n = scores.shape[1]
    levels = np.linspace(-np.log(n / (n + 1)), np.log((n + 1) / _ABOVE), _KNOTS)
    quantiles = np.clip(1 - np.exp(-levels), 0, 1)
    knots = np.quantile(scores, quantiles, axis=1).T
    hair = 1e-6 * (1 + np.abs(knots).max(1, keepdims=True)) * np.arange(_KNOTS)
    return np.maximum.accumulate(knots, axis=1) + hair, levels


def _combine(scores: Tensor, knots: np.ndarray, levels: np.ndarray) -> Tensor:
    x = torch.as_tensor(knots, dtype=scores.dtype, device=scores.device)
    y = torch.as_tensor(levels, dtype=scores.dtype, device=scores.device)
    slope = (y[1:] - y[:-1])[None] / (x[:, 1:] - x[:, :-1])
    at = torch.searchsorted(x, scores.detach().contiguous()).clamp(1, x.shape[1] - 1) - 1
    mapped = y[at] + slope.gather(1, at) * (scores - x.gather(1, at))
    return mapped.mean(0)
