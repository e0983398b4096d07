"""Judged: what a guard says of a batch, and fails closed where it says nonsense."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.guard import Guard
from buckler.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Judged:
    """The answers of one forward, a row each.

    probabilities: (n, k) float32, what the guard predicts from.
    review_ids: under which a row waits for a person; "" where none does.
    """

    verdicts: list[Verdict]
    probabilities: Tensor
    review_ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.verdicts)

    def take(self, rows: slice) -> "Judged":
        return Judged(self.verdicts[rows], self.probabilities[rows], self.review_ids[rows])


def judging(guard: Guard) -> Callable[[Tensor], Judged]:
    """What a batcher asks: x (n, ...) → the answers of the guard."""

    def judge(x: Tensor) -> Judged:
        verdicts, probabilities = guard.judge_with_probabilities(x)
        return Judged(verdicts, probabilities, ("",) * len(verdicts))

    return judge


def join(parts: Sequence[Judged]) -> Judged:
    """The rows of all parts, in order."""
    return Judged(
        [verdict for part in parts for verdict in part.verdicts],
        torch.cat([part.probabilities for part in parts]),
        tuple(each for part in parts for each in part.review_ids),
    )


def checked(judged: Judged) -> Judged:
    """As it came. Raises: RuntimeError where a guard counts with NaN, or its parts are not one a
    row: that reaches nobody."""
    rows = len(judged)
    if not rows == len(judged.probabilities) == len(judged.review_ids):
        raise RuntimeError(
            f"the guard gave {rows} verdicts, {len(judged.probabilities)} rows of probabilities "
            f"and {len(judged.review_ids)} review ids"
        )
    numbers = [number for v in judged.verdicts for number in (v.confidence, v.anomaly_score)]
    if not (all(map(math.isfinite, numbers)) and bool(judged.probabilities.isfinite().all())):
        raise RuntimeError(
            "the guard gave a confidence, a score or a probability that is no number"
        )
    return judged
