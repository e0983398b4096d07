"""Applications that walk towards the threshold: nearly the same one, again and again, each time a
little nearer to it.

Honest people send nearly the same application twice, too: a typo mended, a family at one address.
Their scores come in no order. So the order is what is tested (Mann 1945, Kendall 1938): among
near-equal applications of one client, does the score of any class fall from one to the next more
often than chance allows?
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from buckler.errors import UsageError


@dataclass(frozen=True)
class WalkRule:
    """Args:
    columns: applications that differ in so many, at most, are near.
    first: a walk is tested when it is so long, and at each doubling.
    alpha: the most that an honest client's near-equal applications are called a walk with, all
        their tests together.
    memory: applications remembered of each client. clients: the one longest silent is forgotten.
    """

    columns: int = 3
    first: int = 8
    alpha: float = 2e-3
    memory: int = 128
    clients: int = 1024

    def __post_init__(self) -> None:
        if not (self.columns >= 1 and 8 <= self.first <= self.memory and self.clients >= 1):
            raise UsageError(
                "a rule for walks needs columns >= 1, 8 <= first <= memory and clients >= 1. Got "
                f"{self.columns}, {self.first}, {self.memory}, {self.clients}"
            )
        if not 0 < self.alpha < 1:
            raise UsageError(f"alpha must be in (0, 1). Got {self.alpha}")


@dataclass(frozen=True)
class Walk:
    """length: applications of it. p: how often chance alone falls as steadily."""

    client: str
    length: int
    p: float


@dataclass
class _Client:
    """Chains of near-equal applications: their rows, and their scores by class."""

    chains: list[tuple[list[tuple[float, ...]], list[tuple[float, ...]]]] = field(
        default_factory=list
    )
    rows: int = 0


class Walks:
    """What each client sent, and whether it walks."""

    def __init__(self, rule: WalkRule | None = None) -> None:
        self.rule = rule or WalkRule()
        self._clients: OrderedDict[str, _Client] = OrderedDict()

    def saw(self, client: str, row: Sequence[float], scores: Sequence[float]) -> Walk | None:
        """One application and its scores by class; a Walk where it has just become one.

        The same application again tells nobody anything, and does not count.
        """
        known = self._clients.setdefault(client, _Client())
        self._clients.move_to_end(client)
        while len(self._clients) > self.rule.clients:
            self._clients.popitem(last=False)
        values = tuple(row)
        for chain in known.chains:
            nearest = min(_apart(values, other) for other in chain[0])
            if nearest == 0:
                return None
            if nearest <= self.rule.columns:
                break
        else:
            chain = ([], [])
            known.chains.append(chain)
        chain[0].append(values)
        chain[1].append(tuple(scores))
        known.rows += 1
        self._forget(known)
        return self._judged(client, chain[1])

    def _judged(self, client: str, steps: list[tuple[float, ...]]) -> Walk | None:
        times = math.log2(len(steps) / self.rule.first)
        if times < 0 or times != int(times):
            return None
        classes = list(zip(*steps, strict=True))
        p = min(1.0, len(classes) * min(map(falling_p, classes)))
        return Walk(client, len(steps), p) if p <= self.rule.alpha / 2 ** (times + 1) else None

    def _forget(self, known: _Client) -> None:
        """The oldest chain goes whole: half a walk would look like the start of one."""
        while known.rows > self.rule.memory and len(known.chains) > 1:
            known.rows -= len(known.chains.pop(0)[0])
        if known.rows > 2 * self.rule.memory:
            known.chains.clear()
            known.rows = 0


def _apart(one: tuple[float, ...], other: tuple[float, ...]) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


def falling_p(series: Sequence[float]) -> float:
    """P of a fall at least as steady, were every order as likely: Kendall's S, by the normal law
    with ties and continuity."""
    n = len(series)
    s = sum(
        (series[j] < series[i]) - (series[j] > series[i]) for i in range(n) for j in range(i + 1, n)
    )
    ties = [series.count(value) for value in set(series)]
    variance = n * (n - 1) * (2 * n + 5) - sum(t * (t - 1) * (2 * t + 5) for t in ties)
    if s <= 0 or variance <= 0:
        return 1.0
    return 0.5 * math.erfc((s - 1) / math.sqrt(variance / 18) / math.sqrt(2))
