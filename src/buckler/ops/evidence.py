"""What gateways report of a rollout, what that amounts to, and what it says of the candidate.

Four questions on paired differences, each an e-process at its own level, so that looking often
costs nothing: more SUSPICIOUS, fewer SUSPICIOUS, more attacks that pass, more clean inputs wrong.
Errors and slow answers are held against limits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import exp, log
from typing import Any, Final

from buckler.errors import UsageError
from buckler.ops.pairs import NO_PAIRS, Pairs, above, below, either, total
from buckler.stats import wilson

QUESTIONS: Final = ("more", "fewer", "missed", "wrong")


@dataclass(frozen=True)
class Policy:
    """When a candidate goes on, and when it goes.

    Args:
        alpha: of each of the four questions: the probability that an equal candidate is ever
            rolled back for it.
        tolerance: a rate that differs by so little counts as equal.
        fewer: by how much the rate of SUSPICIOUS may fall: more than `tolerance` where the
            candidate is meant to flag less.
        margin: before more clients come, a candidate must have shown that no rate is worse by so
            much, with error probability `beta`.
        per_client: pairs of one client that count.
        left_out: the verdict must also stand without so many clients, those who moved it most.
        min_clients, min_pairs, min_golden: clients that gave pairs, pairs of clients, and golden
            rows of either kind, before more clients come.
        min_requests: that the candidate answered in a stage before the next.
        min_s: seconds of SHADOW, of 10 %, of 50 %, of 100 %.
        max_s: seconds after which a stage that proved nothing pauses.
        errors, slow: shares of its answers that may fail, or take over `slow_s` seconds; more than
            that, and than the stable one's, is too much once so many `samples` are there.
        crashes: gateways that may end without a word.
        ruling_days: how old the ruling in the bundle's evidence may be.
        probes_per_s: golden rows each gateway sends through both bundles.
    """

    alpha: float = 0.005
    tolerance: float = 0.0025
    fewer: float = 0.0025
    margin: float = 0.03
    beta: float = 0.05
    per_client: int = 128
    left_out: int = 1
    min_clients: int = 20
    min_pairs: int = 500
    min_golden: int = 200
    min_requests: int = 200
    min_s: tuple[float, float, float, float] = (600.0, 1800.0, 1800.0, 3600.0)
    max_s: float = 86_400.0
    errors: float = 0.01
    slow: float = 0.05
    slow_s: float = 0.5
    samples: int = 100
    crashes: int = 2
    ruling_days: float = 30.0
    probes_per_s: float = 5.0

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "margin"):
            _within(name, getattr(self, name), 0 < getattr(self, name) < 1, "in (0, 1)")
        for name in ("tolerance", "fewer", "errors", "slow"):
            _within(name, getattr(self, name), 0 <= getattr(self, name) < 1, "in [0, 1)")
        for name in ("per_client", "min_clients", "min_pairs", "min_requests", "samples"):
            _within(name, getattr(self, name), getattr(self, name) >= 1, "1 or more")
        for name in ("left_out", "min_golden", "crashes"):
            _within(name, getattr(self, name), getattr(self, name) >= 0, "0 or more")
        for name in ("max_s", "slow_s", "ruling_days", "probes_per_s"):
            _within(name, getattr(self, name), getattr(self, name) > 0, "above 0")
        object.__setattr__(self, "min_s", tuple(self.min_s))
        good = len(self.min_s) == 4 and min(self.min_s) >= 0 and max(self.min_s) <= self.max_s
        _within("min_s", self.min_s, good, "four times from 0 to max_s, in seconds")


@dataclass(frozen=True)
class Arm:
    """What one bundle answered: requests, those that failed, those over slow_s."""

    requests: int = 0
    errors: int = 0
    slow: int = 0

    def __add__(self, other: "Arm") -> "Arm":
        return Arm(
            self.requests + other.requests, self.errors + other.errors, self.slow + other.slow
        )


NO_ANSWERS: Final = Arm()


@dataclass(frozen=True)
class Report:
    """What one gateway has seen since it began with this rollout; counts only grow.

    Args:
        loaded: the candidate answers there. refused: why it does not.
        pairs: of clients: 1 where the candidate alone said SUSPICIOUS.
        heavy: pairs of those clients who moved it most either way.
        paired_clients: clients that gave pairs.
        clean: of golden clean rows, as `pairs`.
        missed, wrong: of golden adversarial and clean rows: 1 where the candidate alone accepted
            with the wrong class.
        split: log e-value against the split of clients that was asked for.
        probes: golden rows sent. dropped: pairs not scored, the gateway being busy.
    """

    loaded: bool = False
    refused: str = ""
    stable: Arm = NO_ANSWERS
    candidate: Arm = NO_ANSWERS
    pairs: Pairs = NO_PAIRS
    heavy: Mapping[str, Pairs] = field(default_factory=dict)
    paired_clients: int = 0
    clean: Pairs = NO_PAIRS
    missed: Pairs = NO_PAIRS
    wrong: Pairs = NO_PAIRS
    split: float = 0.0
    probes: int = 0
    dropped: int = 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Report":
        """Raises: TypeError or KeyError for what no gateway wrote."""
        given = dict(value)
        for name in ("stable", "candidate"):
            given[name] = Arm(**given[name])
        for name in ("pairs", "clean", "missed", "wrong"):
            given[name] = Pairs(**given[name])
        given["heavy"] = {name: Pairs(**each) for name, each in given["heavy"].items()}
        return cls(**given)


@dataclass(frozen=True)
class Observations:
    """All reports as one. gateways: those that live; loaded: of them, where the candidate answers;
    crashed: gateways that ended without a word."""

    gateways: int = 0
    loaded: int = 0
    crashed: int = 0
    report: Report = field(default_factory=Report)

    @property
    def counts(self) -> tuple[int, ...]:
        """What can only grow."""
        one = self.report
        arms = (one.stable.requests, one.candidate.requests)
        return (*arms, one.pairs.n, one.clean.n, one.missed.n, one.probes)


def merge(alive: Sequence[Report], ended: Sequence[Report] = (), crashed: int = 0) -> Observations:
    """Observations of all gateways.

    What clients gave adds up, also of gateways that ended. Golden rows do not: each gateway sends
    the same ones, so those of the gateway that sent most count.

    Args:
        ended: last reports of gateways that are no more.
    """
    every = [*alive, *ended]
    if not every:
        return Observations(crashed=crashed)
    golden = max(every, key=lambda each: each.clean.n + each.missed.n)
    parts: dict[str, list[Pairs]] = {}
    for each in every:
        for name, pairs in each.heavy.items():
            parts.setdefault(name, []).append(pairs)
    whole = Report(
        loaded=bool(alive) and all(each.loaded for each in alive),
        refused=next((each.refused for each in alive if each.refused), ""),
        stable=sum((each.stable for each in every), NO_ANSWERS),
        candidate=sum((each.candidate for each in every), NO_ANSWERS),
        pairs=total(each.pairs for each in every),
        heavy={name: total(found) for name, found in parts.items()},
        paired_clients=max(each.paired_clients for each in every),
        clean=golden.clean,
        missed=golden.missed,
        wrong=golden.wrong,
        # The mean of e-values is one, however much the gateways' clients overlap.
        split=log(sum(exp(min(each.split, 700.0)) for each in every) / len(every)),
        probes=sum(each.probes for each in every),
        dropped=sum(each.dropped for each in every),
    )
    return Observations(len(alive), sum(each.loaded for each in alive), crashed, whole)


def worse(seen: Report, policy: Policy) -> dict[str, float]:
    """Log e-value of each question: at log(1/alpha) the candidate is worse.

    Fewer SUSPICIOUS is asked of clients' inputs with golden clean rows and without: golden rows
    that the stable bundle never flags can show no fall, and would thin out the clients'.
    """
    heavy = list(seen.heavy.values())
    quieter = [each.turned for each in heavy]
    alone, clean = seen.pairs.turned, seen.clean.turned
    return {
        "more": above(seen.pairs + seen.clean, policy.tolerance, heavy, policy.left_out),
        "fewer": either(
            above(alone, policy.fewer, quieter, policy.left_out),
            above(alone + clean, policy.fewer, quieter, policy.left_out),
        ),
        "missed": above(seen.missed, policy.tolerance),
        "wrong": above(seen.wrong, policy.tolerance),
    }


def as_good(seen: Report, policy: Policy) -> dict[str, float]:
    """Log e-value of each question: at log(1/beta) the candidate is not worse by the margin."""
    return {
        "more": below(seen.pairs + seen.clean, policy.margin),
        "fewer": below(seen.pairs.turned, policy.fewer + policy.margin),
        "missed": below(seen.missed, policy.margin),
        "wrong": below(seen.wrong, policy.margin),
    }


def too_much(name: str, seen: Report, policy: Policy) -> bool:
    """Whether the candidate fails, or is slow ("errors", "slow"), more often than it may: the lower
    end of its interval is over the limit, and its share over the stable one's."""
    mine, other = seen.candidate, seen.stable
    if mine.requests < policy.samples:
        return False
    bad, theirs = getattr(mine, name), getattr(other, name)
    over = wilson(bad, mine.requests, 0.99).low > getattr(policy, name)
    return bool(over and bad * max(other.requests, 1) > 2 * theirs * mine.requests)


def _within(name: str, value: object, good: bool, allowed: str) -> None:
    if not good:
        raise UsageError(f"a rollout's {name} must be {allowed}. Got {value}")
