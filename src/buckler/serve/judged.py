"""Judged: what a guard says of a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from buckler.verdict import Verdict


@dataclass(frozen=True, eq=False)
class Judged:
    """One verdict a row."""

    verdicts: list[Verdict]

    def __len__(self) -> int:
        return len(self.verdicts)

    def take(self, rows: slice) -> Self:
        return type(self)(self.verdicts[rows])


def join(parts: Sequence[Judged]) -> Judged:
    """The rows of all parts, in order."""
    return Judged([verdict for part in parts for verdict in part.verdicts])


def checked(judged: Judged) -> Judged:
    """Fail closed: what a guard says that counts with NaN reaches nobody."""
    for verdict in judged.verdicts:
        if not (math.isfinite(verdict.confidence) and math.isfinite(verdict.anomaly_score)):
            raise RuntimeError("the guard gave a confidence or an anomaly score that is no number")
    return judged
