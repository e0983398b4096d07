"""What one gateway counts of a rollout, from many threads; `Report` is what it tells the others."""

import threading
from dataclasses import dataclass, field
from typing import Final

from buckler.ops.arms import Side
from buckler.ops.evidence import NO_ANSWERS, Arm, Policy, Report
from buckler.ops.pairs import NO_PAIRS, Pairs
from buckler.stats import split_e

_HEAVY: Final = 16
_MAX_CLIENTS: Final = 100_000


@dataclass(frozen=True)
class Said:
    """What matters of a verdict: SUSPICIOUS or not, and the class."""

    flagged: bool
    prediction: str


@dataclass
class _Counts:
    stable: Arm = NO_ANSWERS
    candidate: Arm = NO_ANSWERS
    pairs: Pairs = NO_PAIRS
    clean: Pairs = NO_PAIRS
    missed: Pairs = NO_PAIRS
    wrong: Pairs = NO_PAIRS
    probes: int = 0
    dropped: int = 0
    by_client: dict[str, Pairs] = field(default_factory=dict)
    sides: dict[str, Side] = field(default_factory=dict)
    golden: dict[int, Said] = field(default_factory=dict)


class Tally:
    """Counts of one rollout; none of its methods waits."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._lock = threading.Lock()
        self._counts = _Counts()
        self._weight = 0

    def weigh(self, weight: int) -> None:
        """Clients are divided anew: count from here."""
        with self._lock:
            if weight != self._weight:
                self._weight = weight
                self._counts.sides = {}

    def answered(self, client: str, side: Side, seconds: float, *, failed: bool = False) -> None:
        """An answer of this bundle, to a client or beside one."""
        slow = not failed and seconds > self._policy.slow_s
        with self._lock:
            counts = self._counts
            setattr(counts, side, getattr(counts, side) + Arm(1, int(failed), int(slow)))
            if len(counts.sides) < _MAX_CLIENTS:
                counts.sides.setdefault(client, side)

    def shadowed(self, seconds: float, *, failed: bool = False) -> None:
        """The candidate was asked beside the stable bundle. Before it has clients of its own, that
        is all there is to know of its errors and its speed; a failure counts at any time."""
        slow = not failed and seconds > self._policy.slow_s
        with self._lock:
            if failed or not self._weight:
                self._counts.candidate += Arm(1, int(failed), int(slow))

    def has_room(self, client: str) -> bool:
        """Whether another pair of this client counts."""
        with self._lock:
            return self._has_room(client)

    def paired(self, client: str, stable: Said, candidate: Said) -> None:
        """Both said something of one input of a client's."""
        with self._lock:
            if not self._has_room(client):
                return
            difference = candidate.flagged - stable.flagged
            found = self._counts.by_client
            found[client] = found.get(client, NO_PAIRS).seen(difference)
            self._counts.pairs = self._counts.pairs.seen(difference)

    def dropped(self) -> None:
        """A pair was not scored, for lack of time."""
        with self._lock:
            self._counts.dropped += 1

    def probed(self, row: int, truth: str, attack: bool, stable: Said, candidate: Said) -> None:
        """Both said something of a golden row. The first time it is evidence; later the same must
        be said again, or the candidate is broken.

        Args:
            attack: it is a known adversarial input; else a known clean one.
        """
        with self._lock:
            counts = self._counts
            counts.probes += 1
            if row in counts.golden:
                if counts.golden[row] != candidate:
                    counts.candidate += Arm(1, 1, 0)
                return
            counts.golden[row] = candidate
            lost = _passes(candidate, truth) - _passes(stable, truth)
            if attack:
                counts.missed = counts.missed.seen(lost)
            else:
                counts.wrong = counts.wrong.seen(lost)
                counts.clean = counts.clean.seen(candidate.flagged - stable.flagged)

    def report(self, *, loaded: bool, refused: str = "") -> Report:
        with self._lock:
            counts = self._counts
            return Report(
                loaded=loaded,
                refused=refused,
                stable=counts.stable,
                candidate=counts.candidate,
                pairs=counts.pairs,
                heavy=_heavy(counts.by_client),
                paired_clients=len(counts.by_client),
                clean=counts.clean,
                missed=counts.missed,
                wrong=counts.wrong,
                split=self._split(),
                probes=counts.probes,
                dropped=counts.dropped,
            )

    def _has_room(self, client: str) -> bool:
        found = self._counts.by_client
        if client not in found:
            return len(found) < _MAX_CLIENTS
        return found[client].n < self._policy.per_client

    def _split(self) -> float:
        sides = self._counts.sides.values()
        if not sides or not 0 < self._weight < 100:
            return 0.0
        moved = sum(side == "candidate" for side in sides)
        return split_e(moved, len(sides), self._weight / 100)


def _passes(said: Said, truth: str) -> bool:
    """Accepted, and wrong."""
    return not said.flagged and said.prediction != truth


def _heavy(by_client: dict[str, Pairs]) -> dict[str, Pairs]:
    """Those who moved the sum most, either way."""
    ranked = sorted(by_client.items(), key=lambda item: item[1].plus - item[1].minus)
    return dict([*ranked[:_HEAVY], *ranked[-_HEAVY:]])
