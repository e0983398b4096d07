"""What a person or a program is told: values of plain numbers and words, JSON as they stand."""

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["ACCEPTED", "SUSPICIOUS"]
IN_PRINT = {"ACCEPTED": "ACCEPTED", "SUSPICIOUS": "SUSPICIOUS - MANUAL REVIEW REQUIRED"}


@dataclass(frozen=True)
class Verdict:
    """The guard's answer for one input.

    prediction is the class name, confidence its probability, anomaly_score the conformal 1 − p of
    the combined score in [0, 1], reasons the scores that stood out most, bundle the digest.
    """

    prediction: str
    confidence: float
    anomaly_score: float
    status: Status
    reasons: tuple[str, ...]
    bundle: str

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        return f"{self.prediction} at {self.confidence:.1%}: {IN_PRINT[self.status]}{why}"


@dataclass(frozen=True)
class Certificate:
    """A randomized-smoothing certificate for one input.

    With probability at least 1 − alpha over the noise draws, the smoothed classifier answers
    `label` for every input within L2 distance `radius` (input units). label None: it abstained.
    """

    label: int | None
    radius: float
    sigma: float
    alpha: float
    n: int

    @property
    def abstained(self) -> bool:
        return self.label is None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        if self.abstained:
            return f"abstained (sigma {self.sigma:g}, n {self.n}, alpha {self.alpha:g})"
        return (
            f"with probability at least {1 - self.alpha:g} over the noise draws, the classifier "
            f"smoothed with sigma {self.sigma:g} answers {self.label} for every input within "
            f"L2 distance {self.radius:.3f}"
        )
