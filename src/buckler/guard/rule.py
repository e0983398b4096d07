"""How several scores become one score, one threshold, one review rate."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import numpy as np
import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.guard.classes import thresholds_by_class
from buckler.stats import Threshold, conformal_p_ordered, conformal_threshold

_KNOTS = 6
_ABOVE = 3  # rows above the last knot, so that no slope hangs on a single one


class Rule(Protocol):
    """SUSPICIOUS exactly where over(scores, predicted) > 0."""

    def over(self, scores: Tensor, predicted: Tensor) -> Tensor: ...
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

    by_class: one threshold a predicted class (`guard.classes`); empty where one serves all.
    """

    knots: np.ndarray
    levels: np.ndarray
    separate: np.ndarray
    combined: np.ndarray
    calibration: Threshold
    by_class: tuple[Threshold, ...] = ()
    _tables: "dict[torch.dtype, _Tables]" = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        with torch.inference_mode(False):  # a tensor made inside it could carry no gradient
            tables = _Tables.of(self.knots, self.levels, [t.value for t in self.by_class])
        object.__setattr__(self, "_tables", {torch.float64: tables})

    @classmethod
    def fit(
        cls,
        select: Tensor,
        calibrate: Tensor,
        review_rate: float,
        predicted: Tensor | None = None,
        classes: int = 0,
    ) -> Self:
        """Args:
        select, calibrate: scores (d, n) on the select split (maps), on the calibrate split
            (thresholds).
        predicted: (n,) the answers on the calibrate split, for thresholds by class, of which
            there are `classes`; None: one threshold for all.
        """
        knots, levels = _knots(select.double().cpu().numpy())
        mapped = _Tables.of(knots, levels, []).to(calibrate).combine(calibrate)
        combined = mapped.double().cpu().numpy()
        separate = np.sort(calibrate.double().cpu().numpy(), axis=1)
        threshold = conformal_threshold(combined.tolist(), review_rate)
        split: tuple[Threshold, ...] = ()
        if predicted is not None:
            split = thresholds_by_class(combined, predicted.cpu().numpy(), classes, review_rate)
        return cls(knots, levels, separate, np.sort(combined), threshold, split)

    @property
    def threshold(self) -> float:
        """The one threshold of all rows; `by_class` has the others."""
        return self.calibration.value

    def at(self, review_rate: float) -> Self:
        """The same scores, calibrated for another review rate.

        Raises: UsageError for thresholds by class, which need the rows' classes: calibrate anew.
        """
        if self.by_class:
            raise UsageError(
                "the review rate of thresholds by class cannot be changed afterwards: calibrate "
                "the guard anew"
            )
        return replace(self, calibration=conformal_threshold(self.combined.tolist(), review_rate))

    def combine(self, scores: Tensor) -> Tensor:
        """One score a row, (n,), of the raw scores (d, n)."""
        return self._of(scores).combine(scores)

    def over(self, scores: Tensor, predicted: Tensor) -> Tensor:
        """How far each row lies over the threshold of its predicted class, (n,)."""
        tables = self._of(scores)
        limit = tables.limits[predicted] if self.by_class else self.threshold
        return tables.combine(scores) - limit

    def anomaly(self, scores: Tensor) -> list[float]:
        """Conformal 1 − p of the combined score among all calibration rows, in [0, 1]."""
        found: list[float] = (
            1 - conformal_p_ordered(self.combined, self.combine(scores).cpu().numpy())
        ).tolist()
        return found

    def reasons(self, scores: Tensor, names: Sequence[str]) -> list[tuple[str, ...]]:
        """The one or two scores with the smallest p, the second only if its p is under 0.1."""
        raw = scores.cpu().numpy()
        p = np.stack(
            [conformal_p_ordered(self.separate[i], raw[i]) for i in range(len(names))], axis=1
        )
        order = p.argsort(1, kind="stable")[:, :2]
        return [
            tuple(names[i] for rank, i in enumerate(best) if rank == 0 or row[i] < 0.1)
            for best, row in zip(order, p, strict=True)
        ]

    def _of(self, scores: Tensor) -> "_Tables":
        """The tables in the scores' dtype, made once; other devices' at each call."""
        kept = self._tables
        if scores.device.type != "cpu":
            return kept[torch.float64].to(scores)
        if scores.dtype not in kept:
            with torch.inference_mode(False):
                kept[scores.dtype] = kept[torch.float64].to(scores)
        return kept[scores.dtype]


@dataclass(frozen=True)
class _Tables:
    """The map as tensors: knots x (d, m), values y (m,), slopes (d, m − 1), limits (k,)."""

    x: Tensor
    y: Tensor
    slope: Tensor
    limits: Tensor

    @classmethod
    def of(cls, knots: np.ndarray, levels: np.ndarray, limits: Sequence[float]) -> Self:
        x = torch.tensor(knots, dtype=torch.float64)
        y = torch.tensor(levels, dtype=torch.float64)
        slope = (y[1:] - y[:-1])[None] / (x[:, 1:] - x[:, :-1])
        return cls(x, y, slope, torch.tensor(limits, dtype=torch.float64))

    def to(self, like: Tensor) -> "_Tables":
        return _Tables(self.x.to(like), self.y.to(like), self.slope.to(like), self.limits.to(like))

    def combine(self, scores: Tensor) -> Tensor:
        """The mean over the scores (d, n) of their maps, (n,)."""
        at = torch.searchsorted(self.x, scores.detach().contiguous())
        at = at.clamp_(1, self.x.shape[1] - 1).sub_(1)
        mapped = self.y[at] + self.slope.gather(1, at) * (scores - self.x.gather(1, at))
        return mapped.mean(0)


@dataclass(frozen=True)
class Thresholds:
    """The article's way: flagged where any score lies over its own threshold, set by hand."""

    limits: tuple[float, ...]
    anomaly_index: int

    def over(self, scores: Tensor, predicted: Tensor) -> Tensor:
        """How far the worst score lies over its own threshold, (n,)."""
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
