"""What a guard must show before it is deployed."""

from dataclasses import dataclass
from typing import Literal

from buckler.errors import UsageError

Mark = Literal["warn", "pass"]


@dataclass(frozen=True)
class Policy:
    """Each bar is held against the bad end of the figure's 95 % interval; None: not asked.

    accuracy_ratio: (accepted and right) / the original's accuracy, at least.
    review_rate: share of clean inputs sent to review, at most.
    added_latency_ms: at p95, under.
    success: accepted and wrong / right at first, under the adaptive suite at eps, under.
    battery: the worst verdict on the evaluation that passes; one that fails never does.
    clean_accuracy: right / all, at least.
    certified_accuracy: right, and certified at `certified_radius` (L2, input units) / all, at
        least.
    class_accuracy: accepted and right / rows of the class, at least, of every class.
    class_robust: right, and never accepted and wrong under attack / rows of the class, likewise.
    regression: share of rows that may be lost against the previous bundle, at most.
    norm, eps: the threat under which attacks are judged, input units.
    """

    accuracy_ratio: float = 0.95
    review_rate: float = 0.10
    added_latency_ms: float = 100.0
    success: float = 0.15
    battery: Mark = "warn"
    clean_accuracy: float | None = None
    certified_accuracy: float | None = None
    certified_radius: float | None = None
    class_accuracy: float | None = None
    class_robust: float | None = None
    regression: float = 0.02
    norm: str = "linf"
    eps: float = 0.1

    def __post_init__(self) -> None:
        for name in _SHARES:
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise UsageError(f"policy.{name} must be in (0, 1]. Got {value}")
        if not self.added_latency_ms > 0 or not self.eps > 0:
            raise UsageError("policy.added_latency_ms and policy.eps must be > 0")
        if self.battery not in ("warn", "pass"):
            raise UsageError(f"policy.battery must be 'warn' or 'pass'. Got {self.battery!r}")
        if (self.certified_accuracy is None) != (self.certified_radius is None):
            raise UsageError(
                "policy.certified_accuracy and policy.certified_radius go together. Got "
                f"{self.certified_accuracy} and {self.certified_radius}"
            )
        if self.certified_radius is not None and not self.certified_radius > 0:
            raise UsageError(f"policy.certified_radius must be > 0. Got {self.certified_radius}")


_SHARES = (
    "accuracy_ratio",
    "review_rate",
    "success",
    "clean_accuracy",
    "certified_accuracy",
    "class_accuracy",
    "class_robust",
    "regression",
)
