"""Crowds that are too alike: an item whose raters share their other tastes as no genuine item's do.

Profiles made for a campaign look innocent one by one; together they are near-copies, and they all
rate one item (Burke et al. 2006; group detection: Mobasher et al. 2007,
doi:10.1145/1278366.1278372). The statistic is the mean cosine between an item's raters; what is
usual depends on how many they are, so an item is compared with clean items of about as many raters.

It sees campaigns of many, not of few: how few is for a benchmark to say. It tells nothing of one
hijacked history, of reviews' texts, or of real people paid for clicks.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from buckler.errors import DataError, UsageError

Floats = NDArray[np.float64]
Json = dict[str, Any]
FEWEST = 5
"""Raters an item needs to be judged."""
_BAND = 150  # reference items a band: p-values down to 1 in 151


@dataclass(frozen=True)
class Crowd:
    """An item, how many rated it, how alike they are, and how rare that is among clean items."""

    item: int
    raters: int
    alike: float
    p: float


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
class Usual:
    """What clean items look like: bands of rater counts (their upper ends), and in each band the
    sorted likeness of its items."""

    ends: tuple[int, ...]
    bands: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, profiles: NDArray[Any]) -> Self:
        """From profiles (users, items) that hold no campaign.

        Raises: DataError if fewer than one band of items has raters enough.
        """
        count, likeness = alike(profiles)
        order = np.argsort(count, kind="stable")
        order = order[count[order] >= FEWEST]
        if len(order) < _BAND:
            raise DataError(
                f"a reference needs {_BAND} items of at least {FEWEST} raters. Got {len(order)}"
            )
        parts = np.array_split(order, len(order) // _BAND)
        ends = [int(count[part].max()) for part in parts]
        return cls(
            (*ends[:-1], np.iinfo(np.int64).max),
            tuple(tuple(sorted(likeness[part].tolist())) for part in parts),
        )

    def p(self, raters: int, likeness: float) -> float:
        """The share of clean items of about as many raters that are as alike, conformal."""
        band = self.bands[int(np.searchsorted(self.ends, raters))]
        above = len(band) - int(np.searchsorted(band, likeness, side="left"))
        return (1 + above) / (len(band) + 1)

    def to_dict(self) -> Json:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Json) -> Self:
        return cls(tuple(value["ends"]), tuple(tuple(band) for band in value["bands"]))


def crowds(usual: Usual, profiles: NDArray[Any], alarms: float = 0.01) -> list[Crowd]:
    """Items whose raters are too alike, the rarest first; on clean profiles a share `alarms` of the
    items, in expectation.

    Args:
        profiles: (users, items) of one window.

    Raises: UsageError for a share finer than the reference's bands can tell.
    """
    finest = 1 / (min(map(len, usual.bands)) + 1)
    if not finest <= alarms < 1:
        raise UsageError(f"alarms must be {finest:.4f} to 1, as the reference tells. Got {alarms}")
    count, likeness = alike(profiles)
    found = [
        Crowd(item, int(n), float(value), usual.p(int(n), float(value)))
        for item, (n, value) in enumerate(zip(count, likeness, strict=True))
        if n >= FEWEST
    ]
    return sorted(_flagged(found, alarms), key=lambda crowd: (crowd.p, -crowd.alike))


def _flagged(found: Sequence[Crowd], alarms: float) -> list[Crowd]:
    return [crowd for crowd in found if crowd.p <= alarms]
