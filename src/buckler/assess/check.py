"""The deployment check: policy against evidence, each figure judged on its interval's bad end."""

import operator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from buckler.assess.ledger import Ledger
from buckler.errors import DataError, UsageError
from buckler.stats import wilson

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Policy:
    """What a guard must show before it is deployed.

    accuracy_ratio: (accepted and right) / the original's accuracy, at least.
    review_rate: share of clean inputs sent to review, at most.
    added_latency_ms: at p95, under.
    success: accepted and wrong / right at first, under the adaptive suite at eps, under.
    norm, eps: the threat under which success is judged, input units.
    """

    accuracy_ratio: float = 0.95
    review_rate: float = 0.10
    added_latency_ms: float = 100.0
    success: float = 0.15
    norm: str = "linf"
    eps: float = 0.1

    def __post_init__(self) -> None:
        for name in ("accuracy_ratio", "review_rate", "success"):
            if not 0 < getattr(self, name) <= 1:
                raise UsageError(f"policy.{name} must be in (0, 1]. Got {getattr(self, name)}")
        if not self.added_latency_ms > 0 or not self.eps > 0:
            raise UsageError("policy.added_latency_ms and policy.eps must be > 0")


@dataclass(frozen=True)
class Item:
    """One figure: its value, the bad end of its interval, and the bar that end must pass.

    rule: the id by which machines know it, the same in every version.
    """

    rule: str
    name: str
    value: float
    bad_end: float
    op: str
    bar: float
    n: int

    @property
    def met(self) -> bool:
        return bool(_OPERATORS[self.op](self.bad_end, self.bar))


@dataclass(frozen=True)
class Ruling:
    """Passed only if every item is met and the adaptive figure stands."""

    digest: str
    policy: Policy
    items: tuple[Item, ...]
    struck: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.struck and all(item.met for item in self.items)

    def to_dict(self) -> dict[str, object]:
        return {
            "schema": "buckler.ruling/1",
            "digest": self.digest,
            "passed": self.passed,
            "policy": asdict(self.policy),
            "items": [{**asdict(item), "met": item.met} for item in self.items],
            "struck": list(self.struck),
        }


def judge_evidence(
    policy: Policy,
    digest: str,
    assessment: dict[str, Any],
    ledger: Ledger,
    original: Ledger,
    latency: dict[str, Any],
    struck: tuple[str, ...] = (),
) -> Ruling:
    """The ruling on one bundle's evidence; reads values only, runs nothing.

    Args:
        assessment, ledger: of the guard under the adaptive suite at the policy's eps.
        original: ledger of the undefended model on the same rows.
        struck: why the adaptive figure does not stand, if it does not.

    Raises: DataError if the evidence is about another bundle, another eps or other rows.
    """
    for name, found in (("assessment", assessment["digest"]), ("latency", latency["digest"])):
        if found != digest:
            raise DataError(
                f"the {name} in evidence/ is about the bundle {str(found)[:12]}, not about this "
                f"one ({digest[:12]}): run buckler assess on this bundle"
            )
    threat = assessment["threat"]
    if (threat.get("norm"), threat.get("eps")) != (policy.norm, policy.eps):
        raise DataError(
            f"the policy judges at {policy.norm} eps {policy.eps:g}; the assessment is at "
            f"{threat.get('norm')} eps {threat.get('eps')}: run buckler assess on this bundle"
        )
    if not np.array_equal(ledger.row, original.row):
        raise DataError("the two ledgers in evidence/ are about different rows: assess again")
    items = (_accuracy(policy, ledger, original), *_rates(policy, ledger, latency))
    return Ruling(digest, policy, items, struck)


def _rates(policy: Policy, ledger: Ledger, latency: dict[str, Any]) -> tuple[Item, Item, Item]:
    rates = ledger.rates()
    if "success" not in rates:
        raise DataError("the guard gets no row right: there is nothing to judge an attack on")
    review, success = rates["review_rate"], rates["success"]
    return (
        Item(
            "review-rate",
            "review rate, clean inputs",
            review.value,
            review.high,
            "<=",
            policy.review_rate,
            review.n,
        ),
        Item(
            "added-latency",
            "added latency at p95, ms",
            latency["one"]["p95"],
            latency["one"]["p95_high"],
            "<",
            policy.added_latency_ms,
            latency["one"]["calls"],
        ),
        Item(
            "success",
            f"accepted and wrong, adaptive, eps {policy.eps:g}",
            success.value,
            success.high,
            "<",
            policy.success,
            success.n,
        ),
    )


def _accuracy(policy: Policy, ledger: Ledger, original: Ledger) -> Item:
    """(accepted and right) / the original's accuracy, on the same rows, so paired.

    The ratio is 1 − (lost − won) / right, where the guard loses or wins rows against the original;
    its bad end takes the upper end of Wilson's interval for the lost and the lower for the won.
    """
    guard, before = ledger.right & ledger.accepted_before, original.right
    n, right = len(before), int(before.sum())
    if not right:
        raise DataError("the original model gets no row right: its accuracy is no yardstick")
    lost, won = wilson(int((before & ~guard).sum()), n), wilson(int((guard & ~before).sum()), n)
    low = 1 - (lost.high - won.low) * n / right
    name = "accepted and right / the original's accuracy"
    value = int(guard.sum()) / right
    return Item("accuracy", name, value, low, ">=", policy.accuracy_ratio, n)
