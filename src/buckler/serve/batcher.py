"""Requests queue while the guard is busy; one thread judges whatever waits, in one go.

It never waits for more to come: that would cost each caller the wait, and gains little.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.serve.judged import Judged, checked
from buckler.serve.refusal import RefusedError


@dataclass(frozen=True, eq=False)
class _Waiting:
    x: Tensor
    answer: Future[Judged]


class Batcher:
    """A bounded queue of requests before one thread that judges.

    Args:
        judge: x (n, ...) → the answers a row, the same for a row whoever shares the batch.
        max_rows: rows a batch; a request has no more.
        max_waiting: requests in the queue; one more is refused.
    """

    def __init__(self, judge: Callable[[Tensor], Judged], max_rows: int, max_waiting: int) -> None:
        self._judge = judge
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._draining = False
        self._thread: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """The thread that judges runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Whether to send it requests."""
        return self.alive and not self._draining

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def rows_waiting(self) -> int:
        with self._changed:
            return sum(len(entry.x) for entry in self._waiting)

    def start(self) -> None:
        self._closed = self._draining = False
        self._thread = threading.Thread(target=self._work, name="buckler-judge", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """Say that no more should come; what comes is answered still."""
        self._draining = True

    def stop(self, timeout_s: float = 2.0) -> None:
        """Take no more, answer what waits, and end; what is not judged by then is refused."""
        with self._changed:
            self._closed = self._draining = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout_s)
        self._refuse_waiting()

    def submit(self, x: Tensor) -> Future[Judged]:
        """The answers to x (n, ...), which was checked, once they are there.

        Raises: RefusedError 429 if the queue is full, 503 if nobody judges.
        """
        with self._changed:
            if self._closed or not self.alive:
                raise _stopped()
            if len(self._waiting) >= self._max_waiting:
                self._waiting = deque(e for e in self._waiting if not e.answer.cancelled())
            if len(self._waiting) >= self._max_waiting:
                raise busy(self._max_waiting)
            entry = _Waiting(x, Future())
            self._waiting.append(entry)
            self._changed.notify_all()
        return entry.answer

    async def answer(self, x: Tensor, until: float) -> Judged:
        """The answers to x. Raises: RefusedError, 504 at the loop's time `until`."""
        try:
            async with asyncio.timeout_at(until):
                return await asyncio.wrap_future(self.submit(x))
        except TimeoutError:
            raise RefusedError(504, "the guard did not answer in time: try again", 1) from None

    def _work(self) -> None:
        # Small nets run best on one thread, and the event loop needs the other cores.
        torch.set_num_threads(1)
        try:
            while batch := self._take():
                self._answer(batch)
        finally:
            self._refuse_waiting()

    def _take(self) -> list[_Waiting]:
        """Whatever waits, up to max_rows; empty once it is closed and nothing waits."""
        batch: list[_Waiting] = []
        rows = 0
        with self._changed:
            while not batch:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return []
                while self._waiting and (
                    not batch or rows + len(self._waiting[0].x) <= self._max_rows
                ):
                    entry = self._waiting.popleft()
                    # False: the caller stopped waiting at the deadline.
                    if entry.answer.set_running_or_notify_cancel():
                        batch.append(entry)
                        rows += len(entry.x)
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            judged = _checked(self._judge(torch.cat([entry.x for entry in batch])), batch)
        except BaseException as error:
            for entry in batch:
                entry.answer.set_exception(_could_not_judge(error))
            if not isinstance(error, Exception):
                raise
            return
        start = 0
        for entry in batch:
            entry.answer.set_result(judged.take(slice(start, start + len(entry.x))))
            start += len(entry.x)

    def _refuse_waiting(self) -> None:
        with self._changed:
            self._closed = True
            left, self._waiting = self._waiting, deque()
        for entry in left:
            if entry.answer.set_running_or_notify_cancel():
                entry.answer.set_exception(_stopped())


def busy(limit: int) -> RefusedError:
    sentence = f"the gateway is busy with {limit} requests: try again in a second"
    return RefusedError(429, sentence, 1)


def _stopped() -> RefusedError:
    return RefusedError(
        503, "the gateway does not judge now: it is starting, stopping or broken", 1
    )


def _could_not_judge(error: BaseException) -> RefusedError:
    refusal = RefusedError(
        500, "the guard could not judge this input: nothing was accepted, the log has the reason"
    )
    refusal.__cause__ = error
    return refusal


def _checked(judged: Judged, batch: list[_Waiting]) -> Judged:
    """Fail closed: the verdicts of a guard that lost rows, or count with NaN, reach nobody."""
    rows = sum(len(entry.x) for entry in batch)
    if len(judged) != rows:
        raise RuntimeError(f"the guard gave {len(judged)} verdicts for {rows} rows")
    return checked(judged)
