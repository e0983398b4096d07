"""Two bundles in one gateway: who answers whom is one value, replaced at once."""

import time
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from torch import Tensor

from buckler.guard import Guard
from buckler.ops.arms import Side, side
from buckler.serve.judged import Judged
from buckler.serve.refusal import RefusedError
from buckler.serve.runner import Runner
from buckler.serve.tally import Tally

BLIND_S: Final = 30.0
"""Seconds without a look at the store after which the candidate answers nobody: nobody would roll
it back."""


@dataclass(frozen=True, eq=False)
class Served:
    """A bundle and the runner that asks it."""

    guard: Guard
    runner: Runner[Judged]

    @property
    def digest(self) -> str:
        return self.guard.digest


@dataclass(frozen=True, eq=False)
class Beside:
    """The candidate, and what decides who it answers: per cent of clients, by lot."""

    served: Served
    tally: Tally
    salt: bytes = field(repr=False)
    weight: int = 0


class Follows(Protocol):
    """A thread."""

    def start(self) -> None: ...
    def stop(self) -> None: ...


class Arms:
    """The stable bundle, and a candidate beside it. To whoever asks for health it is the runner of
    the stable one."""

    def __init__(self, stable: Served) -> None:
        self._pair: tuple[Served, Beside | None] = (stable, None)
        self._looked = time.monotonic()
        self._draining = False
        self._started = False
        self.behind = False
        """Another bundle is live, and could not be loaded."""
        self.rolling: Follows | None = None
        """Who keeps it to the store's pointer, from its start to its stop."""

    @property
    def stable(self) -> Served:
        return self._pair[0]

    @property
    def beside(self) -> Beside | None:
        return self._pair[1]

    def of(self, client: str) -> tuple[Served, Side]:
        """Who answers this client now."""
        stable, beside = self._pair
        if beside is None or time.monotonic() - self._looked > BLIND_S:
            return stable, "stable"
        if side(beside.salt, client, beside.weight) == "stable":
            return stable, "stable"
        return beside.served, "candidate"

    def check(self, client: str, rows: int, nbytes: int, until: float) -> None:
        """Raises: RefusedError if who answers this client cannot take so much now."""
        self.of(client)[0].runner.check(rows, nbytes, until)

    async def answer(self, client: str, x: Tensor, until: float) -> Judged:
        """By the client's own bundle, whatever happens: one that fails is not asked again by way of
        the other. Raises: RefusedError."""
        beside = self.beside
        served, at = self.of(client)
        began = time.monotonic()
        try:
            judged = await served.runner.answer(x, until)
        except RefusedError as error:
            if error.status == 503 and self.of(client)[0] is not served:
                return await self.answer(client, x, until)  # it left while this was on its way
            if beside is not None and error.status >= 500:
                beside.tally.answered(client, at, 0.0, failed=True)
            raise
        if beside is not None:
            beside.tally.answered(client, at, time.monotonic() - began)
        return judged

    def looked(self) -> None:
        """The store was asked who answers; what it said holds."""
        self._looked = time.monotonic()

    def put_beside(self, beside: Beside) -> None:
        """A candidate that was warmed up; it answers by its weight from here."""
        if self._started:
            beside.served.runner.start()
        self._pair = (self.stable, beside)

    def weigh(self, weight: int) -> None:
        stable, beside = self._pair
        if beside is not None and beside.weight != weight:
            beside.tally.weigh(weight)
            self._pair = (stable, replace(beside, weight=weight))

    def clear(self) -> None:
        """The candidate answers nobody any more; what it has in hand it finishes."""
        stable, beside = self._pair
        self._pair = (stable, None)
        if beside is not None:
            beside.served.runner.stop()

    def promote(self, served: Served) -> None:
        """This one is the stable one from here."""
        stable, beside = self._pair
        mine = beside is not None and beside.served is served
        if self._started and not mine:
            served.runner.start()
        self._pair, self.behind = (served, None), False
        if beside is not None and not mine:
            beside.served.runner.stop()
        if stable is not served:
            stable.runner.stop()

    def start(self) -> None:
        self._started, self._draining = True, False
        for runner in self._runners():
            runner.start()
        if self.rolling is not None:
            self.rolling.start()

    def drain(self) -> None:
        self._draining = True
        for runner in self._runners():
            runner.drain()

    def stop(self) -> None:
        self._started = False
        if self.rolling is not None:
            self.rolling.stop()
        for runner in self._runners():
            runner.stop()

    @property
    def guards(self) -> list[Guard]:
        """Those that may answer somebody now."""
        stable, beside = self._pair
        return [stable.guard] if beside is None else [stable.guard, beside.served.guard]

    @property
    def rows_waiting(self) -> int:
        return sum(runner.rows_waiting for runner in self._runners())

    @property
    def bytes_waiting(self) -> int:
        return sum(runner.bytes_waiting for runner in self._runners())

    @property
    def age(self) -> float:
        return self.stable.runner.age

    @property
    def abandoned(self) -> int:
        return sum(runner.abandoned for runner in self._runners())

    @property
    def broken(self) -> bool:
        return self.stable.runner.broken

    @property
    def draining(self) -> bool:
        return self._draining or self.stable.runner.draining

    @property
    def not_ready(self) -> str:
        if self._draining:
            return "stopping"
        return self.stable.runner.not_ready or ("behind" if self.behind else "")

    def _runners(self) -> list[Runner[Judged]]:
        stable, beside = self._pair
        return [stable.runner] if beside is None else [stable.runner, beside.served.runner]
