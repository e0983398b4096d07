"""Hours of the week: what a bundle's own traffic says of when rates rise and fall.

The shape is learnt from the traffic, the level never: a factor is an hour's rate over the rate of
all hours, at most a doubling or a halving, and 1 until the hour came in four different weeks. An
attacker who comes at the same hour for weeks gains a doubled reference there, no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

HOURS: Final = 168
_VISITS: Final = 4
_PRIOR: Final = 20  # events of a kind whose weight pulls a factor towards 1
_STEPS: Final = 4  # to a doubling: few different factors, few charts to solve


@dataclass(frozen=True)
class Season:
    """hours: of each hour of the week (UTC) that was seen, how often it came, rows, rows in the
    tail, SUSPICIOUS ones, then rows a class group. now: the hour of the last rows."""

    hours: Mapping[int, tuple[int, ...]]
    now: int = -1

    @property
    def is_long(self) -> bool:
        """Whether any hour is known well enough."""
        return any(each[0] >= _VISITS for each in self.hours.values())

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Season":
        hours = {int(hour): tuple(map(int, each)) for hour, each in value["hours"].items()}
        return cls(hours, int(value["now"]))


NO_SEASON: Final = Season({})


@dataclass(frozen=True)
class Factors:
    """The rates of an hour over those of all hours: tail, SUSPICIOUS, and a class group each."""

    tail: float
    suspicious: float
    classes: tuple[float, ...]


def hour_of(at: float) -> int:
    """0 … 167, from Monday's first hour in UTC.

    >>> hour_of(0.0)  # 1 January 1970 was a Thursday
    72
    """
    return (int(at // 3600) + 72) % HOURS


def add(
    season: Season, at: float, rows: int, tail: int, suspicious: int, groups: NDArray[np.integer]
) -> Season:
    """With these rows in the hour of `at`; one visit an hour, however many batches."""
    hour = hour_of(at)
    new = np.array([hour != season.now, rows, tail, suspicious, *groups], np.int64)
    old = season.hours.get(hour)
    total = new if old is None else new + old
    return replace(season, hours={**season.hours, hour: tuple(total.tolist())}, now=hour)


def factors(season: Season, at: float, groups: int) -> Factors:
    """Those of the hour of `at`."""
    here = season.hours.get(hour_of(at))
    if here is None or here[0] < _VISITS:
        return Factors(1.0, 1.0, (1.0,) * groups)
    total = np.sum(list(season.hours.values()), axis=0)[1:].astype(float)
    rows, kinds = here[1], np.asarray(here[2:], float)
    expected = rows * total[1:] / total[0]
    ratio = (kinds + _PRIOR) / (expected + _PRIOR)
    steps = np.clip(np.round(_STEPS * np.log2(ratio)), -_STEPS, _STEPS)
    found = np.exp2(steps / _STEPS).tolist()
    return Factors(found[0], found[1], tuple(found[2:]))
