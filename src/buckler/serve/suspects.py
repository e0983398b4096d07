"""Who is under suspicion now, and what is done about it: nothing, fewer answers, or SUSPICIOUS.

It begins a random number of rows after it was decided, and stays: an answer does not tell which
input was caught. What is near a run is under suspicion whoever sends it, so a fresh key for the
last step does not help; that compares some 200 cells on the path, only while there are suspects.
"""

import asyncio
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from buckler.inputs import InputSpec
from buckler.ops.fingerprint import Bytes, Looks
from buckler.ops.streams import Alarm, Rule
from buckler.serve.body import QUICK
from buckler.serve.judged import Judged
from buckler.serve.quota import Bucket
from buckler.serve.refusal import busy
from buckler.serve.settings import Streams as Policy
from buckler.store.suspects import Mark

_MOST: Final = 1024  # marks that count; the oldest goes
_GRACE: Final = 8
_SLOW_PER_S: Final = 0.2


@dataclass(frozen=True)
class Suspect:
    """A client whose runs were seen: how often, the longest, and until when that counts."""

    client: str
    kinds: tuple[str, ...]
    near: int
    marks: int
    since: float
    until: float


class Suspects:
    """Threads may share it.

    Args:
        hold_s: seconds a finding counts.
        grace: the most rows that are still answered after one.
        clock: unix seconds.
    """

    def __init__(
        self,
        spec: InputSpec,
        looks: Looks,
        rule: Rule,
        policy: Policy,
        hold_s: float,
        *,
        grace: int = _GRACE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._spec, self._looks, self._rule = spec, looks, rule
        self._policy, self._hold_s, self._grace = policy, hold_s, grace
        self._clock = clock
        self._lock = threading.Lock()
        self._marks: dict[str, Mark] = {}
        self._left: dict[str, int] = {}
        self._by_client: dict[str, list[str]] = {}
        self._cells: Bytes = np.empty((0, 0), np.uint8)
        self._names: list[str] = []
        self._slow: dict[str, Bucket] = {}
        self.acted = 0
        """Rows that were made SUSPICIOUS or refused."""

    @property
    def policy(self) -> Policy:
        return self._policy

    def mark(self, alarm: Alarm) -> list[Mark]:
        """Remember it. Returns: what others should know, nothing if it is no news."""
        now = self._clock()
        with self._lock:
            self._forget(now)
            fresh = not bool(self._hot(alarm.cells[None]).any())
            clients: Sequence[str] = [c for c in alarm.clients if not self._known(c, now)]
            if fresh and not clients:
                clients = alarm.clients[:1] or ("",)
            made = [
                Mark(
                    id=secrets.token_hex(16),
                    client=client,
                    kind=alarm.kind,
                    near=alarm.near,
                    since=now,
                    until=now + self._hold_s,
                    grace=secrets.randbelow(self._grace + 1),
                    cells=alarm.cells.tobytes().hex(),
                )
                for client in clients
            ]
            self._take(made)
            return made

    def take(self, marks: Sequence[Mark]) -> None:
        """What other gateways found."""
        width = len(self._looks.cells(np.zeros((1, *self._looks.shape), np.float32))[0])
        with self._lock:
            self._forget(self._clock())
            self._take([m for m in marks if m.id not in self._marks and len(m.cells) == 2 * width])

    def all(self) -> list[Suspect]:
        """Who is under suspicion, the newest first."""
        with self._lock:
            self._forget(self._clock())
            found = {
                client: [self._marks[name] for name in names]
                for client, names in self._by_client.items()
                if client
            }
        suspects = [
            Suspect(
                client,
                tuple(sorted({mark.kind for mark in marks})),
                max(mark.near for mark in marks),
                len(marks),
                min(mark.since for mark in marks),
                max(mark.until for mark in marks),
            )
            for client, marks in found.items()
        ]
        return sorted(suspects, key=lambda suspect: -suspect.until)

    async def rows(self, client: str, x: Tensor) -> NDArray[np.bool_] | None:
        """Which rows of x (n, ...) must not be ACCEPTED; None: any may.

        Raises: RefusedError 429 where the policy is to answer fewer.
        """
        if self._policy == "flag" or not (self._marks or len(x) >= self._rule.own):
            return None
        # To look at many bytes takes long: the answers to others do not wait for it.
        if x.nbytes > QUICK:
            found = await asyncio.to_thread(self._rows, client, x)
        else:
            found = self._rows(client, x)
        if not found.any():
            return None
        self.acted += int(found.sum())
        if self._policy == "throttle":
            self._pass(client, int(found.sum()))
            return None
        return found

    def _rows(self, client: str, x: Tensor) -> NDArray[np.bool_]:
        values = scaled(self._spec, x)
        cells = self._looks.cells(values)
        crowd = self._crowd(values, cells)
        with self._lock:
            self._forget(self._clock())
            mine = self._by_client.get(client, [])
            if mine and self._spent(mine[0], len(x)):
                return np.ones(len(x), np.bool_)
            hot = self._hot(cells)
            found = zip(self._names, hot.sum(0).tolist(), strict=True)
            acting = [count > 0 and self._spent(name, count) for name, count in found]
            rows: NDArray[np.bool_] = np.any(hot & np.array(acting, np.bool_), axis=1) | crowd
            return rows

    def _crowd(self, values: NDArray[np.float32], cells: Bytes) -> NDArray[np.bool_]:
        """(n,) rows that are a run within one request: nobody could look at it before."""
        crowd = np.zeros(len(values), np.bool_)
        if len(values) < self._rule.own:
            return crowd
        different = list({row.tobytes(): index for index, row in enumerate(values)}.values())
        if len(different) >= self._rule.own:
            least = self._rule.own * self._rule.times(cells[different])
            near = [self._rule.near.of(cells[different], cells[index]).sum() for index in different]
            crowd[different] = near >= least
        return crowd

    def _spent(self, name: str, rows: int) -> bool:
        """Whether its grace is over; if not, it has less of it."""
        left = self._left[name]
        self._left[name] = max(0, left - rows)
        return left <= 0

    def _hot(self, cells: Bytes) -> NDArray[np.bool_]:
        """(n, marks) which of cells (n, c) are near which marks."""
        if not self._names:
            return np.zeros((len(cells), 0), np.bool_)
        return np.stack([self._rule.near.of(self._cells, row) for row in cells])

    def _known(self, client: str, now: float) -> bool:
        """Whether it is under suspicion for a good while yet."""
        marks = self._by_client.get(client, [])
        return any(self._marks[name].until - now > self._hold_s / 2 for name in marks)

    def _take(self, marks: Sequence[Mark]) -> None:
        for mark in marks:
            self._marks[mark.id] = mark
            self._left[mark.id] = mark.grace
        self._index()

    def _forget(self, now: float) -> None:
        old = [name for name, mark in self._marks.items() if mark.until <= now]
        if not old:
            return
        for name in old:
            del self._marks[name], self._left[name]
        self._index()

    def _index(self) -> None:
        for name in list(self._marks)[:-_MOST]:
            del self._marks[name], self._left[name]
        self._by_client = {}
        for mark in self._marks.values():
            self._by_client.setdefault(mark.client, []).append(mark.id)
        self._names = list(self._marks)
        cells = [np.frombuffer(bytes.fromhex(m.cells), np.uint8) for m in self._marks.values()]
        self._cells = np.stack(cells) if cells else np.empty((0, 0), np.uint8)
        self._slow = {c: b for c, b in self._slow.items() if c in self._by_client}

    def _pass(self, client: str, rows: int) -> None:
        now = time.monotonic()
        bucket = self._slow.setdefault(client, Bucket(_SLOW_PER_S, 1, 1, now))
        if wait := bucket.take(rows, now):
            raise busy("many inputs wait", wait, "stream")


def suspicious(judged: Judged, rows: NDArray[np.bool_]) -> Judged:
    """As it came, but those rows are SUSPICIOUS."""
    found = [
        replace(verdict, status="SUSPICIOUS") if row else verdict
        for verdict, row in zip(judged.verdicts, rows, strict=True)
    ]
    return replace(judged, verdicts=found)


def scaled(spec: InputSpec, x: Tensor) -> NDArray[np.float32]:
    """x (n, ...) in [0, 1]."""
    low, high = spec.box
    values: NDArray[np.float32] = x.numpy().astype(np.float32, copy=False)
    return values if (low, high) == (0.0, 1.0) else (values - low) / (high - low)
