"""What a bundle's verdicts tell of an attack: charts that page, and one for drift.

Three statistics page: the tail of the conformal p-values (how many rows lie in it, and how deep),
the rate of SUSPICIOUS rows in both directions (fewer is an attack that passes), and the classes
answered. All are set by one number, the rows between two false alarms of all of them together. The
confidence's ranks are drift: a ticket.

A reference is never taken to be exact: rates come from so many calibration rows, and the charts are
made for the worst that 95 % of such calibrations allow, so that the promise holds for a small set
too, at the price of a later alarm.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from buckler.errors import DataError
from buckler.ops.charts import LEAST, Learnt, Tier, low_rate, watched
from buckler.ops.cusum import Run, run
from buckler.ops.rows import Reference, columns
from buckler.ops.season import NO_SEASON, Season, add, factors

LEARNT_ROWS: Final = 20_000
"""Rows from which a bundle's own traffic is the reference of what its calibration does not tell."""


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

    @property
    def reference(self) -> Learnt | None:
        """None while it learns."""
        return Learnt(self.classes, self.suspicious) if self.learnt else None

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
    factor = factors(state.season, at, reference.groups)
    for each in watched(reference, arl, state.reference, factor):
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
    low = low_rate(reference, state.reference)
    if low is not None and low < LEAST:
        said.append(f"fewer SUSPICIOUS rows: their rate of {low:.2g} is under {LEAST:g}")
    if not state.season.is_long:
        said.append("hours of the week: fewer than four weeks were seen, all count alike")
    return said
