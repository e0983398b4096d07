"""Long runs of near-equal inputs, as black-box attackers send them, and nobody else for long.

An attack without gradients asks hundreds of times for the same image with small changes. So for
each input the different earlier ones near it are counted, among the client's own and among all.
What is sent again unchanged counts once: it tells an attacker nothing.

What holds against one who knows all of this: any two images on the 8-bit grid that are within 0.1
of a third in every pixel are near (`near.radius` is 51 levels, and cells are means). So whoever
searches that L∞ ball has `own` − 1 different inputs among the last `memory` of a key, and
`everyone` − 1 among the last `memory_of_all` of all: however they are drawn, spaced or mixed with
others; twice as many around a pale image (`pale`). Inputs from outside the ball may tell of it,
too; of them this says nothing.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from buckler.errors import UsageError
from buckler.ops.fingerprint import Bytes, Looks, Print
from buckler.ops.ring import Near, Ring

Kind = Literal["near", "shared", "angles"]
_WIDTH: Final = 0.08
_STRAIGHT: Final = 0.93
_OF: Final = 12


@dataclass(frozen=True)
class Rule:
    """When a run is one. The defaults were set on MNIST, Fashion-MNIST and CIFAR-10 test sets.

    Args:
        near: which images are.
        own: different near inputs of one client that are a run.
        everyone: of all clients together.
        pale: twice as many of each where an image's cells have a standard deviation under so many
            levels: a sky is near the next one.
        chain: inputs of one client that are a run, each with most of the earlier ones' hashes.
        part: a client had a part in that with so many of them.
        memory: inputs that are remembered of each client, and
        memory_of_all: of all together.
        clients: that are remembered; the one longest silent is forgotten.
        angles: of the last so many angles between a client's consecutive differences,
        alike: so many within 0.08 (of the cosine) are a run; and
        straight: so many of the last 12 that are straight, on or back: a border is sought between
            two images by halving.
    """

    near: Near = field(default_factory=Near)
    own: int = 14
    everyone: int = 32
    pale: float = 22.0
    chain: int = 10
    part: int = 3
    memory: int = 1024
    memory_of_all: int = 8192
    clients: int = 256
    angles: int = 48
    alike: int = 40
    straight: int = 4

    def __post_init__(self) -> None:
        if not 2 <= self.own <= self.everyone <= self.memory <= self.memory_of_all:
            raise UsageError(
                "a rule for streams needs 2 <= own <= everyone <= memory <= memory_of_all. Got "
                f"own={self.own}, everyone={self.everyone}, memory={self.memory}, "
                f"memory_of_all={self.memory_of_all}"
            )
        if not (
            min(self.part, self.clients) >= 1
            and min(self.chain, self.straight) >= 2
            and self.pale >= 0
            and self.angles >= self.alike >= self.straight
        ):
            raise UsageError(
                "a rule for streams needs part >= 1, clients >= 1, pale >= 0, chain >= 2 and "
                f"2 <= straight <= alike <= angles. Got part={self.part}, clients={self.clients}, "
                f"pale={self.pale}, chain={self.chain}, straight={self.straight}, "
                f"alike={self.alike}, angles={self.angles}"
            )

    def times(self, cells: Bytes) -> NDArray[np.int64]:
        """(n,) how many times as many as `own` or `everyone` are a run around cells (n, c)."""
        found: NDArray[np.int64] = np.where(cells.std(1) < self.pale, 2, 1)
        return found


@dataclass(frozen=True, eq=False)
class Alarm:
    """A run that was seen.

    clients: who had a part in it; none where each sent too little of it.
    near: inputs in it so far; angles that were alike.
    cells: of the input that showed it.
    """

    kind: Kind
    clients: tuple[str, ...]
    near: int
    cells: Bytes


@dataclass(eq=False)
class _Client:
    ring: Ring
    number: int
    lasts: deque[Bytes]
    cosines: deque[float]


class Streams:
    """Remembers what was asked, in bounded memory. One thread."""

    def __init__(self, rule: Rule, looks: Looks) -> None:
        self._rule = rule
        self._looks = looks
        self._cells = looks.cells(np.zeros((1, *looks.shape), np.float32)).shape[1]
        self._all = Ring(rule.memory_of_all, self._cells)
        self._clients: OrderedDict[str, _Client] = OrderedDict()
        self._names: dict[int, str] = {}
        self._next = 0

    @property
    def nbytes(self) -> int:
        """Of what is remembered now."""
        lasts = sum(last.nbytes for client in self._clients.values() for last in client.lasts)
        rings = sum(client.ring.nbytes for client in self._clients.values())
        return self._all.nbytes + rings + lasts

    @property
    def held(self) -> int:
        """Inputs that are remembered, of a client or of all."""
        return max(len(self._all), sum(len(client.ring) for client in self._clients.values()))

    def saw(self, client: str, x: NDArray[np.floating[Any]]) -> list[Alarm]:
        """What an input (c, h, w) in [0, 1] of a client shows, most often nothing."""
        seen = self._looks.print(x)
        mine = self._client(client)
        found = mine.ring.find(seen, self._rule.near)
        if found.again:
            return []
        alarms, rule = [], self._rule
        times = int(rule.times(seen.cells[None])[0])
        near, run = len(found.near) + 1, found.run + 1
        if near >= times * rule.own or run >= rule.chain:
            alarms.append(Alarm("near", (client,), max(near, run), seen.cells))
        everywhere = self._all.find(seen, rule.near)
        near, run = len(everywhere.near) + 1, everywhere.run + 1
        if near >= times * rule.everyone or run >= rule.everyone:
            parts = self._parts(everywhere.near, mine.number)
            alarms.append(Alarm("shared", parts, max(near, run), seen.cells))
        if count := self._angles(mine, seen):
            alarms.append(Alarm("angles", (client,), count, seen.cells))
        mine.ring.add(seen, mine.number, found)
        self._all.add(seen, mine.number, everywhere)
        return alarms

    def _client(self, name: str) -> _Client:
        client = self._clients.get(name)
        if client is None:
            angles: deque[float] = deque(maxlen=self._rule.angles)
            ring = Ring(self._rule.memory, self._cells)
            client = self._clients[name] = _Client(ring, self._next, deque(maxlen=2), angles)
            self._names[client.number] = name
            self._next += 1
            if len(self._clients) > self._rule.clients:
                _, gone = self._clients.popitem(last=False)
                del self._names[gone.number]
        self._clients.move_to_end(name)
        return client

    def _parts(self, near: NDArray[np.int64], last: int) -> tuple[str, ...]:
        numbers, counts = np.unique(np.append(self._all.whose(near), last), return_counts=True)
        names = (self._names.get(int(n)) for n in numbers[counts >= self._rule.part])
        return tuple(name for name in names if name is not None)

    def _angles(self, client: _Client, seen: Print) -> int:
        """How many of the client's last angles are a run, 0 if none are."""
        if len(client.lasts) == 2:
            first, second = (values.astype(np.float32) for values in client.lasts)
            step, next_step = second - first, seen.values - second
            if sizes := float(np.linalg.norm(step) * np.linalg.norm(next_step)):
                client.cosines.append(float(step @ next_step) / sizes)
        client.lasts.append(seen.values)
        cosines = np.array(client.cosines)
        straight = int((np.abs(cosines[-_OF:]) > _STRAIGHT).sum())
        alike = densest(cosines, _WIDTH)
        return max(
            straight if straight >= self._rule.straight else 0,
            alike if alike >= self._rule.alike else 0,
        )


def densest(values: NDArray[np.float64], width: float) -> int:
    """The most values within an interval of that width.

    >>> densest(np.array([0.0, 0.05, 0.07, 0.5]), 0.08)
    3
    """
    if not len(values):
        return 0
    values = np.sort(values)
    return int(
        (np.searchsorted(values, values + width, side="right") - np.arange(len(values))).max()
    )
