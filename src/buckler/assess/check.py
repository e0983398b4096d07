"""The deployment check: policy against evidence, each figure judged on its interval's bad end."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from buckler.assess.floors import Item, certified_item, class_items, regression_items
from buckler.assess.ledger import Ledger
from buckler.assess.policy import Policy
from buckler.errors import DataError
from buckler.stats import wilson

Json = dict[str, Any]
_GRADES = {"pass": 0, "warn": 1, "fail": 2}


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


@dataclass(frozen=True)
class Previous:
    """What the bundle before this one showed: its assessment, and the ledger of it."""

    assessment: Json
    ledger: Ledger


def judge_evidence(
    policy: Policy,
    digest: str,
    assessment: Json,
    ledger: Ledger,
    original: Ledger,
    latency: Json,
    struck: tuple[str, ...] = (),
    *,
    battery: str = "pass",
    certificates: Json | None = None,
    previous: Previous | None = None,
    class_names: tuple[str, ...] = (),
) -> Ruling:
    """The ruling on one bundle's evidence; reads values only, runs nothing.

    Args:
        assessment, ledger: of the guard under the adaptive suite at the policy's eps.
        original: ledger of the undefended model on the same rows.
        struck: why the adaptive figure does not stand, if it does not.
        battery: "pass", "warn" or "fail": the verdict on the evaluation.
        certificates: for a policy that asks for certified accuracy.
        previous: the bundle that no row may be lost against; None: there is none.
        class_names: in the order of the labels; needed for floors by class.

    Raises: DataError if the evidence is about another bundle, another eps or other rows, or a
        figure that the policy asks for was not measured.
    """
    for name, found in (("assessment", assessment["digest"]), ("latency", latency["digest"])):
        _about(name, found, digest)
    _same_threat(policy, assessment, "the assessment", "run buckler assess on this bundle")
    if not np.array_equal(ledger.row, original.row):
        raise DataError("the two ledgers in evidence/ are about different rows: assess again")
    items = [_accuracy(policy, ledger, original), *_rates(policy, ledger, latency)]
    if policy.clean_accuracy is not None:
        items.append(_clean(policy.clean_accuracy, ledger))
    if policy.battery == "pass":
        grade, name = _GRADES[battery], "verdict on the evaluation (0 pass, 1 warn, 2 fail)"
        items.append(Item("battery", name, grade, grade, "<=", 0, len(ledger.row)))
    if policy.certified_accuracy is not None and policy.certified_radius is not None:
        if certificates is None:
            raise DataError(
                "the policy asks for certified accuracy, and evidence/certificates.json is not "
                "there: run buckler certify on this bundle"
            )
        _about("certificates", certificates["digest"], digest)
        items.append(
            certified_item(certificates, policy.certified_radius, policy.certified_accuracy)
        )
    items += class_items(policy, ledger, class_names)
    if previous is not None:
        _same_threat(policy, previous.assessment, "the previous bundle's", "assess it at that one")
        items += regression_items(ledger, previous.ledger, policy.regression)
    return Ruling(digest, policy, tuple(items), struck)


def _about(name: str, found: object, digest: str) -> None:
    if found != digest:
        raise DataError(
            f"the {name} in evidence/ is about the bundle {str(found)[:12]}, not about this "
            f"one ({digest[:12]}): run buckler assess on this bundle"
        )


def _same_threat(policy: Policy, assessment: Json, whose: str, remedy: str) -> None:
    threat = assessment["threat"]
    if (threat.get("norm"), threat.get("eps")) != (policy.norm, policy.eps):
        raise DataError(
            f"the policy judges at {policy.norm} eps {policy.eps:g}; {whose} is at "
            f"{threat.get('norm')} eps {threat.get('eps')}: {remedy}"
        )


def _clean(bar: float, ledger: Ledger) -> Item:
    rate = ledger.rates()["clean_accuracy"]
    return Item("clean-accuracy", "clean accuracy", rate.value, rate.low, ">=", bar, rate.n)


def _rates(policy: Policy, ledger: Ledger, latency: Json) -> tuple[Item, Item, Item]:
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
