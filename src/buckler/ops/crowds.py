"""Crowds that are no crowds: an item whose raters are too alike, too unlike, or suddenly too many.

Profiles made for a campaign look innocent one by one. Together they are near-copies, or have
nothing in common, or at least are many, and they all rate one item (Burke et al. 2006; group
detection: Mobasher et al. 2007, doi:10.1145/1278366.1278372). Two statistics of an item: the mean
cosine between its raters, and how its count grew since the window before. What is usual depends on
how many raters there are, so an item is compared with clean items of about as many; the larger
departure of the two counts, and one conformal p-value is made of it.

Growth is no proof of fraud: a hit grows too. It tells nothing of one hijacked history, of reviews'
texts, or of real people paid for clicks.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from buckler.errors import DataError, UsageError

Floats = NDArray[np.float64]
Json = dict[str, Any]
FEWEST: Final = 5
"""Raters an item needs to be judged."""
_BAND: Final = 150  # reference items a band: p-values down to 1 in 151
Sign = Literal["alike", "unlike", "grown"]


@dataclass(frozen=True)
class Crowd:
    """An item, how many rated it, how alike they are, how rare that is, and what is unusual."""

    item: int
    raters: int
    alike: float
    p: float
    sign: Sign


def alike(profiles: NDArray[Any]) -> tuple[NDArray[np.int64], Floats]:
    """Of each item: how many users have it, and the mean cosine of their profiles, that item left
    out (0 for fewer than two).

    Args:
        profiles: (users, items), above 0 where a user has an item.
    """
    if profiles.ndim != 2 or not np.isfinite(profiles).all():
        raise DataError(f"profiles must be finite and (users, items). Got {profiles.shape}")
    has = (profiles > 0).astype(np.float32)
    sizes = has.sum(1, keepdims=True)
    unit = has / np.sqrt(np.maximum(sizes, 1))
    together = has.T @ unit  # (items, items): the sum of an item's raters
    count = has.sum(0)
    own = np.diagonal(together)
    # Every rater has the item itself: it says nothing. A rater's cosine with itself neither.
    selves = (has * (1 - 1 / np.maximum(sizes, 1))).sum(0)
    pairs = (together.astype(np.float64) ** 2).sum(1) - own.astype(np.float64) ** 2 - selves
    return count.astype(np.int64), np.where(
        count > 1, pairs / np.maximum(count * (count - 1), 1), 0.0
    )


@dataclass(frozen=True)
class Band:
    """Clean items of about as many raters: the middle and the spread (median absolute deviation) of
    likeness and of growth, and the sorted departures of its items."""

    most: int
    likeness: tuple[float, float]
    growth: tuple[float, float]
    departures: tuple[float, ...]


@dataclass(frozen=True)
class Usual:
    """What clean items look like, in bands of rising rater counts."""

    bands: tuple[Band, ...]

    @classmethod
    def of(cls, *windows: NDArray[Any]) -> Self:
        """From two or more windows (users, items) that hold no campaign, one after the other: of
        two alone, the realised share of alarms may be half as large again as asked.

        Raises: DataError if fewer than one band of items has raters enough.
        """
        found = [_statistics(before, now) for before, now in pairwise(windows)]
        if not found:
            raise DataError(f"a reference needs two windows or more. Got {len(windows)}")
        count, likeness, growth = (np.concatenate(each) for each in zip(*found, strict=True))
        order = np.argsort(count, kind="stable")
        order = order[count[order] >= FEWEST]
        if len(order) < _BAND:
            raise DataError(
                f"a reference needs {_BAND} items of at least {FEWEST} raters. Got {len(order)}"
            )
        parts = np.array_split(order, len(order) // _BAND)
        return cls(tuple(_band(count[p], likeness[p], growth[p]) for p in parts))

    def band(self, raters: int) -> Band:
        return next((band for band in self.bands if raters <= band.most), self.bands[-1])

    def to_dict(self) -> Json:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Json) -> Self:
        return cls(
            tuple(
                Band(
                    band["most"],
                    tuple(band["likeness"]),
                    tuple(band["growth"]),
                    tuple(band["departures"]),
                )
                for band in value["bands"]
            )
        )


def crowds(
    usual: Usual, before: NDArray[Any], now: NDArray[Any], alarms: float = 0.01
) -> list[Crowd]:
    """Items whose raters are no usual crowd, the rarest first; on clean windows a share `alarms` of
    the items, in expectation.

    Args:
        before, now: (users, items) of two windows, one after the other.

    Raises: UsageError for a share finer than the reference's bands can tell.
    """
    finest = 1 / (min(len(band.departures) for band in usual.bands) + 1)
    if not finest <= alarms < 1:
        raise UsageError(f"alarms must be {finest:.4f} to 1, as the reference tells. Got {alarms}")
    count, likeness, growth = _statistics(before, now)
    found = []
    for item in np.flatnonzero(count >= FEWEST).tolist():
        band = usual.band(int(count[item]))
        departure, sign = _departure(band, likeness[item], growth[item])
        above = len(band.departures) - int(np.searchsorted(band.departures, departure))
        p = (1 + above) / (len(band.departures) + 1)
        if p <= alarms:
            crowd = Crowd(item, int(count[item]), float(likeness[item]), p, sign)
            found.append((p, -departure, crowd))
    return [crowd for *_, crowd in sorted(found, key=lambda each: each[:2])]


def _statistics(
    before: NDArray[Any], now: NDArray[Any]
) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Counts now, likeness now, and growth in standard deviations of counts that did not change."""
    if before.shape[1:] != now.shape[1:]:
        raise DataError(f"both windows need the same items. Got {before.shape} and {now.shape}")
    count, likeness = alike(now)
    earlier = (before > 0).sum(0) * (len(now) / max(len(before), 1))
    return count, likeness, (count - earlier) / np.sqrt(count + earlier + 1.0)


def _band(count: NDArray[np.int64], likeness: Floats, growth: Floats) -> Band:
    empty = Band(int(count.max()), _middle(likeness), _middle(growth), ())
    departures = sorted(
        _departure(empty, one, other)[0] for one, other in zip(likeness, growth, strict=True)
    )
    return Band(empty.most, empty.likeness, empty.growth, tuple(departures))


def _middle(values: Floats) -> tuple[float, float]:
    middle = float(np.median(values))
    return middle, max(float(np.median(np.abs(values - middle))), 1e-9)


def _departure(band: Band, likeness: float, growth: float) -> tuple[float, Sign]:
    """The larger of both, in spreads; growth counts upwards alone."""
    off = (likeness - band.likeness[0]) / band.likeness[1]
    grown = (growth - band.growth[0]) / band.growth[1]
    if grown > abs(off):
        return float(grown), "grown"
    return float(abs(off)), "alike" if off > 0 else "unlike"
