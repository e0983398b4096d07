"""What a bundle's verdicts tell of an attack: charts that page, and one for drift.

Three statistics page: the tail of the conformal p-values (how many rows lie in it, and how deep),
the rate of SUSPICIOUS rows in both directions (fewer is an attack that passes), and the classes
answered. All are set by one number, the rows between two false alarms of all of them together. The
confidence's ranks are drift: a ticket.

A reference is never taken to be exact: rates come from so many calibration rows, and the charts are
made for the worst that 95 % of such calibrations allow, so that the promise holds for a small set
too, at the price of a later alarm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from buckler.errors import DataError, UsageError
from buckler.ops.cusum import Chart, Run, chart, run
from buckler.ops.rows import CONFIDENCE, Reference, columns, worst
from buckler.ops.season import NO_SEASON, Season, add, factors

Tier = Literal["page", "ticket"]
LEARNT_ROWS: Final = 20_000
"""Rows from which a bundle's own traffic is the reference of what its calibration does not tell."""
CONTAMINATION: Final = 0.02
"""The share of adversarial rows that the charts are made to find."""
_HIT: Final = 0.85  # of adversarial rows, how many lie in the tail
_FALL: Final = 0.15  # how slowly that falls with depth: half of them are 100 times as deep
_FEWER: Final = 0.5  # the fall of the SUSPICIOUS rate that is sought
_LEAST: Final = 0.005  # a rarer event's absence shows only after tens of thousands of rows
_SURER: Final = 0.25  # the shift of confidence's ranks, in standard deviations
_ODDS: Final = 1.5  # the rise of a class
# Of the false alarms: a chart each for tail, depth, suspicious up and down, and one a class.
_SHARES: Final = {"tail": 1 / 3, "suspicious": 1 / 9, "class": 1 / 9}


@dataclass(frozen=True)
class Alarm:
    """A chart that reached its limit.

    statistic: "tail", "depth", "suspicious up", "suspicious down", "class NAME", "confidence up" or
        "confidence down".
    row: of the batch, where it did.
    rows, hits: since the change by maximum likelihood, and how many of those speak for it: in the
        tail, SUSPICIOUS (for "down": ACCEPTED), of the class, above or below the median confidence.
    expected: the share of such rows, by the reference.
    """

    statistic: str
    tier: Tier
    row: int
    rows: int
    hits: int
    expected: float

    @property
    def rate(self) -> float:
        return self.hits / self.rows


@dataclass(frozen=True)
class State:
    """Where a bundle's charts stand; `to_dict` is JSON.

    charts: of each, S / limit, rows and hits since it was 0.
    classes, suspicious: counts of the first LEARNT_ROWS rows, which are the reference from then on.
    """

    seen: int = 0
    alarms: int = 0
    classes: tuple[int, ...] = ()
    suspicious: int = 0
    charts: Mapping[str, tuple[float, int, int]] = field(default_factory=dict)
    season: Season = NO_SEASON

    @property
    def learnt(self) -> bool:
        return self.seen >= LEARNT_ROWS

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "State":
        """Raises: DataError for what `to_dict` did not write."""
        try:
            given = dict(value)
            charts = {
                str(name): (float(at), int(rows), int(hits))
                for name, (at, rows, hits) in given.pop("charts").items()
            }
            season = Season.from_dict(given.pop("season"))
            classes = tuple(map(int, given.pop("classes")))
            return cls(**given, classes=classes, charts=charts, season=season)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise DataError(f"the state of the alarms cannot be read: {error}") from None


@dataclass(frozen=True)
class Watched:
    """A chart, and the column of `rows.columns` that it looks at.

    part: which class; of the tail, how many levels.
    """

    statistic: str
    tier: Tier
    column: str
    part: int
    chart: Chart
    expected: float

    def categories(self, seen: Mapping[str, NDArray[np.int64]]) -> NDArray[np.int64]:
        column = seen[self.column]
        if self.column == "class":
            return (column == self.part).astype(np.int64)
        return column.clip(max=self.part) if self.column == "tail" else column


def step(
    reference: Reference, arl: float, state: State, codes: NDArray[np.uint16], at: float
) -> tuple[State, tuple[Alarm, ...]]:
    """The state after these rows, and what alarmed.

    Args:
        arl: rows between two false alarms of all paging charts together.
        codes: (n,) of `rows.encode`, in the order of their answers.
        at: unix seconds of the first of them; wherever a clock jumped, only the hour of the week is
            taken from it.

    Raises: UsageError for an arl that no chart can have.
    """
    if not len(codes):
        return state, ()
    seen = columns(reference, codes)
    charts, alarms = dict(state.charts), []
    for each in watched(reference, arl, state, at):
        fraction, rows, hits = charts.get(each.statistic, (0.0, 0, 0))
        before = Run(round(fraction * each.chart.limit), rows, hits)
        after = run(each.chart, before, each.categories(seen))
        charts[each.statistic] = (after.at / each.chart.limit, after.rows, after.hits)
        alarms += [
            Alarm(each.statistic, each.tier, row, rows, hits, each.expected)
            for row, rows, hits in after.alarms
        ]
    counts = np.bincount(seen["class"], minlength=reference.groups)
    suspicious = int(seen["suspicious"].sum())
    season = add(state.season, at, len(codes), int((seen["tail"] > 0).sum()), suspicious, counts)
    new = replace(
        state, seen=state.seen + len(codes), alarms=state.alarms + len(alarms), season=season
    )
    if not state.learnt:
        old = state.classes or (0,) * reference.groups
        new = replace(
            new,
            classes=tuple(a + int(b) for a, b in zip(old, counts, strict=True)),
            suspicious=state.suspicious + suspicious,
        )
    return replace(new, charts=charts), tuple(sorted(alarms, key=lambda alarm: alarm.row))


def watched(reference: Reference, arl: float, state: State, at: float) -> list[Watched]:
    """The charts of this hour of the week, as far as their references are known."""
    if not arl > 1:
        raise UsageError(f"rows between two false alarms must be more than 1. Got {arl:g}")
    tail, suspicious, classes = factors(state.season, at, reference.groups)
    found = [
        *_tail(reference, arl / _SHARES["tail"], tail),
        *_suspicious(reference, state, arl / _SHARES["suspicious"], suspicious),
        *_confidence(reference, arl),
    ]
    if state.learnt and reference.groups > 1:
        each = arl * reference.groups / _SHARES["class"]
        total = sum(state.classes)
        for group, (count, factor) in enumerate(zip(state.classes, classes, strict=True)):
            p = min(0.95, worst(count, total) * factor)
            odds = _ODDS * p / (1 - p)
            shifted = max(odds / (1 + odds), _more(p, CONTAMINATION))
            made = chart((1 - p, p), (1 - shifted, shifted), each)
            name = f"class {reference.name(group)}"
            found.append(Watched(name, "page", "class", group, made, count / total))
    return found


def not_watched(reference: Reference, state: State) -> list[str]:
    """What no chart looks at now, and why: a sentence each."""
    said = []
    if not reference.ranks:
        said.append("the tail: this bundle's rule has no conformal p-values")
    if not reference.confident:
        said.append("confidence: it is none of this bundle's calibrated scores")
    if not state.learnt:
        left = f"learning from the first {LEARNT_ROWS} rows, {state.seen} so far"
        said.append(f"classes: {left}")
        if reference.review is None:
            said.append(f"SUSPICIOUS rows: {left}")
    low = _low(reference, state)
    if low is not None and low < _LEAST:
        said.append(f"fewer SUSPICIOUS rows: their rate of {low:.2g} is under {_LEAST:g}")
    if not state.season.is_long:
        said.append("hours of the week: fewer than four weeks were seen, all count alike")
    return said


def _tail(reference: Reference, arl: float, factor: float) -> list[Watched]:
    """A Bernoulli CUSUM on the tail, and one in which deeper rows weigh more.

    The second's alternative puts (rank / first)^_FALL of the adversarial rows in the tail below a
    level, the power calibrator of p-values (Vovk and Wang 2021): several times as quick on rows
    that lie deep, and blind to an attack that stays just within the tail, which the first one sees.
    """
    n, expected = reference.n, [rank / (reference.n + 1) for rank in reference.ranks]
    null = [min(0.5, worst(rank - 1, n) * factor) for rank in reference.ranks]
    hit = [_HIT * (p / expected[0]) ** _FALL for p in expected]
    shifted = [p + CONTAMINATION * (h - p) for p, h in zip(null, hit, strict=True)]
    found = []
    for name, levels in (("tail", min(1, len(null))), ("depth", len(null))):
        if levels and (name == "tail" or levels > 1):
            made = chart(_apart(null[:levels]), _apart(shifted[:levels]), arl)
            found.append(Watched(name, "page", "tail", levels, made, expected[0]))
    return found


def _suspicious(reference: Reference, state: State, arl: float, factor: float) -> list[Watched]:
    found, low = [], _low(reference, state)
    if low is None:
        return []
    if reference.review is not None:
        high, expected = reference.review[2], reference.review[1]
    else:
        total = sum(state.classes)
        high, expected = worst(state.suspicious, total), state.suspicious / total
    p = min(0.95, high * factor)
    more = _more(p, CONTAMINATION * _HIT)
    made = chart((1 - p, p), (1 - more, more), arl)
    found.append(Watched("suspicious up", "page", "suspicious", 0, made, expected))
    if low * factor >= _LEAST:
        p = min(0.95, low * factor)
        made = chart((1 - p, p), (1 - _FEWER * p, _FEWER * p), arl)
        found.append(Watched("suspicious down", "page", "suspicious", 0, made, 1 - expected))
    return found


def _low(reference: Reference, state: State) -> float | None:
    """The lowest rate of SUSPICIOUS rows that the reference allows; None while it is unknown."""
    if reference.review is not None:
        return reference.review[0]
    if not state.learnt:
        return None
    total = sum(state.classes)
    return 1 - worst(total - state.suspicious, total)


def _confidence(reference: Reference, arl: float) -> list[Watched]:
    """CUSUM of normal scores: the ranks' tenths, tilted by `_SURER` standard deviations."""
    if not reference.confident:
        return []
    null = (1 / CONFIDENCE,) * CONFIDENCE
    scores = norm.ppf((np.arange(CONFIDENCE) + 0.5) / CONFIDENCE)
    found = []
    for name, sign in (("confidence up", 1), ("confidence down", -1)):
        tilted = np.exp(sign * _SURER * scores)
        made = chart(null, tuple((tilted / tilted.sum()).tolist()), arl)
        found.append(Watched(name, "ticket", "confidence", 0, made, 0.5))
    return found


def _more(p: float, share: float) -> float:
    """The rate when `share` of the rows are of the kind for sure."""
    return p + share * (1 - p)


def _apart(cumulative: Sequence[float]) -> tuple[float, ...]:
    """The probabilities of the bins, from those of reaching each level: nothing first."""
    edges = [1.0, *cumulative, 0.0]
    return tuple(a - b for a, b in pairwise(edges))
