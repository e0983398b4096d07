"""One figure of a ruling, and those a policy may ask for beside the usual four."""

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from buckler.assess.ledger import Ledger
from buckler.assess.policy import Policy
from buckler.errors import DataError
from buckler.stats import Rate, wilson

Json = dict[str, Any]
_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


@dataclass(frozen=True)
class Item:
    """One figure: its value, the bad end of its interval, and the bar that end must pass.

    rule: the id by which machines know it, the same in every version.
    subject: the class it is about, where a rule has an item a class.
    """

    rule: str
    name: str
    value: float
    bad_end: float
    op: str
    bar: float
    n: int
    subject: str = ""

    @property
    def met(self) -> bool:
        return bool(_OPERATORS[self.op](self.bad_end, self.bar))


def certified_rate(certificates: Json, radius: float) -> Rate:
    """Certified accuracy: right, and certified at least that far (L2, input units) / all rows. A
    certificate against patches has no radius: 0."""
    rows = certificates["certificates"]
    right = sum(row["label"] == row["y"] and row.get("radius", 0.0) >= radius for row in rows)
    return wilson(right, len(rows))


def certified_item(certificates: Json, radius: float, bar: float) -> Item:
    rate = certified_rate(certificates, radius)
    name = f"certified accuracy at L2 radius {radius:g}"
    return Item("certified-accuracy", name, rate.value, rate.low, ">=", bar, rate.n)


def class_items(policy: Policy, ledger: Ledger, names: Sequence[str]) -> Iterator[Item]:
    """An item a class and floor.

    Raises: DataError if a class has no row among those assessed.
    """
    held = ledger.right & ~ledger.broken
    floors = (
        ("class-accuracy", "accepted and right", policy.class_accuracy,
         ledger.right & ledger.accepted_before),
        ("class-robust", f"right and unbroken at eps {policy.eps:g}", policy.class_robust, held),
    )  # fmt: skip
    for rule, what, bar, good in floors:
        if bar is None:
            continue
        for label, name in enumerate(names):
            mine = ledger.y == label
            if not mine.any():
                raise DataError(
                    f"the policy has a floor for each class, and none of the {len(mine)} rows "
                    f"assessed is of {name!r}: raise assess.rows"
                )
            rate = wilson(int((good & mine).sum()), int(mine.sum()))
            title = f"{what}, class {name!r}"
            yield Item(rule, title, rate.value, rate.low, ">=", bar, rate.n, name)


def regression_items(now: Ledger, before: Ledger, bar: float) -> tuple[Item, Item]:
    """Rows lost against the previous bundle, less rows won / all, on the same rows, so paired.

    The bad end takes the upper end of Wilson's interval for the lost and the lower for the won.

    Raises: DataError if the two ledgers are about different rows.
    """
    if not (np.array_equal(now.row, before.row) and np.array_equal(now.y, before.y)):
        raise DataError(
            "the previous bundle was assessed on other rows: assess both on the same data, rows "
            "and seed"
        )
    clean, clean_before = (ledger.right & ledger.accepted_before for ledger in (now, before))
    held, held_before = (ledger.right & ~ledger.broken for ledger in (now, before))
    what = "lost to the previous bundle"
    return (
        _lost("regression-clean", f"accepted and right, {what}", clean, clean_before, bar),
        _lost("regression-attack", f"right and unbroken, {what}", held, held_before, bar),
    )


def _lost(rule: str, name: str, now: np.ndarray, before: np.ndarray, bar: float) -> Item:
    n = len(now)
    lost, won = wilson(int((before & ~now).sum()), n), wilson(int((now & ~before).sum()), n)
    return Item(rule, name, lost.value - won.value, lost.high - won.low, "<=", bar, n)
