"""Whether a retrain is owed: by alarms, regressions and errors reviewers found."""

from dataclasses import dataclass

from buckler.errors import UsageError
from buckler.ops.retraining import GoldenLoss
from buckler.ops.sampling import Estimate


@dataclass(frozen=True)
class Limits:
    """confirmed: attacks confirmed by reviewers. wrong: wrong / reviewed ACCEPTED rows drawn at
    random, by the low end of its interval."""

    confirmed: int = 20
    wrong: float = 0.02

    def __post_init__(self) -> None:
        if self.confirmed < 1 or not 0 < self.wrong < 1:
            raise UsageError(
                "confirmed must be 1 or more and wrong in (0, 1). "
                f"Got {self.confirmed} and {self.wrong:g}"
            )


@dataclass(frozen=True)
class Signs:
    """What was seen since the present bundle was made; None: not measured.

    pages: titles of alarms that paged. golden: the present bundle against the first. redteam: the
    success rate of the last run less that of the one before (value, low, high). confirmed: rows
    that may enter training and that reviewers called attacks. reviewed: how often the machine's
    answer was wrong.
    """

    pages: tuple[str, ...] = ()
    golden: tuple[GoldenLoss, ...] = ()
    redteam: tuple[float, float, float] | None = None
    confirmed: int = 0
    reviewed: Estimate | None = None


@dataclass(frozen=True)
class Owed:
    """One sentence a reason; none: nothing is owed."""

    reasons: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.reasons)


def due(signs: Signs, limits: Limits) -> Owed:
    """Whether a retrain is owed, and why. A rate counts by its interval, never by its value alone.

    >>> due(Signs(confirmed=25), Limits()).reasons
    ('reviewers confirmed 25 attacks (20 are enough)',)
    >>> bool(due(Signs(redteam=(0.04, -0.01, 0.09)), Limits()))
    False
    """
    found = []
    if signs.pages:
        found.append(f"alarms that paged: {len(signs.pages)}, the last: {signs.pages[-1]}")
    for loss in signs.golden:
        if loss.refused:
            found.append(
                f"the golden set lost {loss.lost - loss.won} of {loss.n} rows "
                f"({100 * loss.share:.2f} points)"
            )
    if signs.redteam is not None and signs.redteam[1] > 0:
        value, low, high = (100 * each for each in signs.redteam)
        found.append(f"the red team's success rose by {value:.1f} points [{low:.1f} to {high:.1f}]")
    if signs.confirmed >= limits.confirmed:
        found.append(
            f"reviewers confirmed {signs.confirmed} attacks ({limits.confirmed} are enough)"
        )
    missed = signs.reviewed.missed if signs.reviewed else None
    if missed is not None and missed.low > limits.wrong:
        found.append(
            f"{missed.k} of {missed.n} ACCEPTED rows drawn at random were wrong: "
            f"{100 * missed.value:.1f} % [{100 * missed.low:.1f} to {100 * missed.high:.1f}], "
            f"over {100 * limits.wrong:g} %"
        )
    return Owed(tuple(found))
