"""What a guard is worth in money a week: before against after, with intervals and all inputs.

An input is an attack with probability p. An attack that is accepted and wrong costs `missed`; each
input that is flagged costs a review; a clean one that is flagged costs `false_alarm` besides (the
customer who waits). Chow (1970) on the price of rejecting. A claim holds its own inputs: a figure
of money without them says nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product

from buckler.errors import UsageError
from buckler.stats import wilson

_BEFORE = "no guard"
Count = tuple[int, int]
"""(k, n): k of n that were counted."""


@dataclass(frozen=True)
class Prices:
    """In one unit of money; minutes: of a person, a review."""

    missed: float
    review: float
    false_alarm: float
    minutes: float = 3.0
    unit: str = "EUR"

    def __post_init__(self) -> None:
        for name in ("missed", "review", "false_alarm", "minutes"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"prices: {name} must be a number >= 0. Got {value}")


@dataclass(frozen=True)
class Traffic:
    """volume: inputs a week. attacks: (attacks, inputs looked at), a random sample's."""

    volume: float
    attacks: Count

    def __post_init__(self) -> None:
        if not 0 < self.volume < math.inf:
            raise UsageError(f"volume must be inputs a week, above 0. Got {self.volume}")
        _check("attacks", self.attacks)


@dataclass(frozen=True)
class System:
    """What was counted of one system.

    missed: attacks accepted and wrong / attacks. flagged_attacks: attacks sent to review / attacks.
    flagged_clean: clean inputs sent to review / clean inputs. None: it can flag nothing, which is
    no sample of anything.
    """

    name: str
    missed: Count
    flagged_attacks: Count | None
    flagged_clean: Count | None

    def __post_init__(self) -> None:
        for name, count in zip(_RATES, self.counts, strict=True):
            if count is not None:
                _check(f"{self.name}: {name}", count)

    @property
    def counts(self) -> tuple[Count, Count | None, Count | None]:
        return self.missed, self.flagged_attacks, self.flagged_clean


@dataclass(frozen=True)
class Range:
    """A value, and the interval the true one lies in with at least 95 %."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Impact:
    """A week with each system, and all that the figures rest on.

    before, after, saved: money a week. hours: of review saved a week, below 0 where it takes more.
    pays_from: the share of attacks from which `after` is the cheaper; None where there is no such
    share: it is `always` the cheaper, never, or only below one.
    """

    before: Range
    after: Range
    saved: Range
    hours: Range
    pays_from: float | None
    always: bool
    traffic: Traffic
    prices: Prices
    systems: tuple[System, System]

    def sentence(self) -> str:
        """The claim, its inputs beside it."""
        old, new = self.systems
        attacks, seen = self.traffic.attacks
        unit, prices = self.prices.unit, self.prices
        return (
            f"{new.name} instead of {old.name} saves {_money(self.saved, unit)} a week, at "
            f"{self.traffic.volume:,.0f} inputs a week, {attacks} attacks in {seen:,} of them, "
            f"{prices.missed:g} {unit} a missed attack, {prices.review:g} a review, "
            f"{prices.false_alarm:g} a false alarm; missed {_of(old.missed)} before, "
            f"{_of(new.missed)} after; clean inputs flagged {_of(old.flagged_clean)} before, "
            f"{_of(new.flagged_clean)} after; {self.hours.value:+,.1f} "
            f"hours of review saved at {prices.minutes:g} minutes each"
        )

    def to_dict(self) -> dict[str, object]:
        return {"schema": "buckler.impact/1", "sentence": self.sentence(), **asdict(self)}


@dataclass(frozen=True)
class Week:
    """A week with one system. at_risk: what missed attacks cost; cost: the same, reviews and false
    alarms besides; hours: of review."""

    at_risk: Range
    cost: Range
    hours: Range
    traffic: Traffic
    prices: Prices
    system: System

    def sentence(self) -> str:
        """The claim, its inputs beside it."""
        attacks, seen = self.traffic.attacks
        unit, prices = self.prices.unit, self.prices
        return (
            f"{self.system.name}: {_money(self.at_risk, unit)} a week at risk, "
            f"{_money(self.cost, unit)} with reviews and false alarms, at "
            f"{self.traffic.volume:,.0f} inputs a week, {attacks} attacks in {seen:,} of them, "
            f"{prices.missed:g} {unit} a missed attack, {prices.review:g} a review, "
            f"{prices.false_alarm:g} a false alarm; missed {_of(self.system.missed)}, clean inputs "
            f"flagged {_of(self.system.flagged_clean)}"
        )

    def to_dict(self) -> dict[str, object]:
        return {"schema": "buckler.week/1", "sentence": self.sentence(), **asdict(self)}


_RATES = ("missed", "flagged_attacks", "flagged_clean")


def unguarded(missed: Count) -> System:
    """Nothing is flagged, and nobody reviews."""
    return System(_BEFORE, missed, None, None)


def impact(traffic: Traffic, prices: Prices, before: System, after: System) -> Impact:
    """Money a week before, after, and saved.

    Each measured rate has Wilson's interval at the confidence that makes all of them hold together
    with 95 % (Bonferroni). The money is linear in each rate, so its extremes are at corners of that
    box. The interval of what is saved moves the share of attacks for both systems at once.
    """
    counts = [traffic.attacks, *before.counts, *after.counts]
    middle = [_rate(count) for count in counts]
    corners = [_change(traffic.volume, prices, corner) for corner in _corners(counts)]
    old, new, saved, hours = _ranges(_change(traffic.volume, prices, middle), corners)
    pays_from, always = _pays_from(prices, middle[1:4], middle[4:])
    return Impact(old, new, saved, hours, pays_from, always, traffic, prices, (before, after))


def week(traffic: Traffic, prices: Prices, system: System) -> Week:
    """Money and hours a week with one system; intervals as `impact` has them."""
    counts = [traffic.attacks, *system.counts]

    def figures(rates: Sequence[float]) -> tuple[float, float, float]:
        p, missed, caught, alarmed = rates
        at_risk = p * missed * prices.missed
        cost = _cost(prices, p, missed, caught, alarmed)
        hours = _reviews(p, missed, caught, alarmed) * prices.minutes / 60
        return traffic.volume * at_risk, traffic.volume * cost, traffic.volume * hours

    middle = figures([_rate(count) for count in counts])
    at_risk, cost, hours = _ranges(middle, [figures(corner) for corner in _corners(counts)])
    return Week(at_risk, cost, hours, traffic, prices, system)


def cheapest(traffic: Traffic, prices: Prices, systems: Sequence[System]) -> System:
    """The one that costs least a week, of systems (a guard at several thresholds, say); of several
    as cheap, the one that flags least. The rates are taken as measured: choose on other rows than
    those the impact is then told of.

    Raises: UsageError if there is none to choose from.
    """
    if not systems:
        raise UsageError("there is no threshold to choose from: give one or more")
    p = _rate(traffic.attacks)

    def order(system: System) -> tuple[float, float]:
        rates = [_rate(count) for count in system.counts]
        return round(_cost(prices, p, *rates), 12), _reviews(p, *rates)

    return min(systems, key=order)


def _rate(count: Count | None) -> float:
    return 0.0 if count is None else count[0] / count[1]


def _corners(counts: Sequence[Count | None]) -> list[tuple[float, ...]]:
    """Of the box in which all rates lie together with 95 %."""
    confidence = 1 - 0.05 / sum(count is not None for count in counts)
    box = []
    for count in counts:
        rate = None if count is None else wilson(*count, confidence=confidence)
        box.append((0.0,) if rate is None else (rate.low, rate.high))
    return list(product(*box))


def _ranges(middle: Sequence[float], corners: Sequence[Sequence[float]]) -> list[Range]:
    return [
        Range(value, min(c[i] for c in corners), max(c[i] for c in corners))
        for i, value in enumerate(middle)
    ]


def _change(
    volume: float, prices: Prices, rates: Sequence[float]
) -> tuple[float, float, float, float]:
    """Money before, after and saved, and hours saved. rates: p, three before, three after."""
    p, before, after = rates[0], rates[1:4], rates[4:]
    old, new = volume * _cost(prices, p, *before), volume * _cost(prices, p, *after)
    reviews = volume * (_reviews(p, *before) - _reviews(p, *after))
    return old, new, old - new, reviews * prices.minutes / 60


def _cost(prices: Prices, p: float, missed: float, caught: float, alarmed: float) -> float:
    """Expected, of one input."""
    attack = prices.missed * missed + prices.review * caught
    clean = (prices.review + prices.false_alarm) * alarmed
    return p * attack + (1 - p) * clean


def _reviews(p: float, missed: float, caught: float, alarmed: float) -> float:
    """Expected reviews of one input."""
    return p * caught + (1 - p) * alarmed


def _pays_from(
    prices: Prices, before: Sequence[float], after: Sequence[float]
) -> tuple[float | None, bool]:
    """The share of attacks at which both cost the same, if `after` is the cheaper above it; and
    whether it is never the dearer."""
    at_none, at_all = (_cost(prices, p, *before) - _cost(prices, p, *after) for p in (0.0, 1.0))
    if at_none >= 0 and at_all >= 0:
        return None, True
    if at_none < 0 < at_all:
        return -at_none / (at_all - at_none), False
    return None, False


def _check(name: str, count: Count) -> None:
    k, n = count
    if not 0 <= k <= n or n < 1:
        raise UsageError(f"{name} must be (k, n) with 0 <= k <= n and n >= 1. Got {count}")


def _money(found: Range, unit: str) -> str:
    return f"{found.value:,.0f} {unit} [{found.low:,.0f} to {found.high:,.0f}]"


def _of(count: Count | None) -> str:
    return "none" if count is None else f"{count[0]} of {count[1]:,}"
