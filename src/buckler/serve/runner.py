"""The runner of a bundle: one thread that judges whatever waits, and a watch over that thread.

It never waits for more to come: that would cost each caller the wait, and gains little.
A thread that hangs cannot be stopped: it is abandoned, its late answer goes nowhere, another comes.
"""

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic

import torch
from torch import Tensor

from buckler.serve.bell import Bell
from buckler.serve.limits import Limits as Limits
from buckler.serve.queue import Batch, Entry, Queue, R
from buckler.serve.refusal import RefusedError, busy, could_not_judge, late, not_now
from buckler.serve.reply import Reply

_SURE = 0.7  # of the time left: what a prediction may fill, for it may be wrong
_MEMORY = 0.8  # of the service rate's past, at each batch


class Runner(Generic[R]):
    """A bounded queue before one thread that judges.

    Args:
        judge: x (n, ...) → n rows of answers, the same for a row whoever shares the batch.
        join: the answers of several batches as one.
        blank: (1, ...) a row that can always be judged: the heartbeat.
        on_batch: told the rows of each batch that was judged.
    """

    def __init__(
        self,
        judge: Callable[[Tensor], R],
        join: Callable[[Sequence[R]], R],
        blank: Tensor,
        limits: Limits,
        on_batch: Callable[[int], None] | None = None,
    ) -> None:
        self._judge = judge
        self._join = join
        self._blank = blank
        self._limits = limits
        self._on_batch = on_batch
        self._lock = threading.RLock()
        self._bell = Bell()
        self._idle = False  # the thread waits, and nobody rang yet
        self._queue: Queue[R] = Queue(limits.queue_rows, limits.queue_bytes)
        self._hand: Batch[R] | None = None
        self._since = 0.0  # when the batch in hand was taken, or the last one ended
        self._rate: float | None = None  # rows a second
        self._generation = 0
        self._thread: threading.Thread | None = None
        self._watch: threading.Thread | None = None
        self._closed, self._draining = True, False
        self._probe = False  # a heartbeat is due, before anything else
        self._why = "starting"  # what keeps it from being ready; "" if nothing does
        self.abandoned = 0

    @property
    def rows_waiting(self) -> int:
        return self._queue.rows

    @property
    def bytes_waiting(self) -> int:
        return self._queue.nbytes

    @property
    def age(self) -> float:
        """Seconds since the batch in hand was taken; 0 if there is none."""
        return 0.0 if self._hand is None else max(0.0, time.monotonic() - self._since)

    @property
    def broken(self) -> bool:
        """Too many threads hung or died: only a new process helps."""
        return self.abandoned > self._limits.abandonments

    @property
    def draining(self) -> bool:
        return self._draining

    @property
    def not_ready(self) -> str:
        """Why no request should be sent here; "" if they should."""
        if self._draining:
            return "stopping"
        return "hung" if self.age > self._limits.hung_after_s else self._why

    @property
    def ready(self) -> bool:
        return not self.not_ready

    def start(self) -> None:
        """The judge was tried before (a warm-up): it is ready from here."""
        with self._lock:
            self._closed = self._draining = False
            self._why, self._probe = "", False
            self._start_thread()
            self._watch = threading.Thread(target=self._look, name="buckler-watch", daemon=True)
            self._watch.start()

    def drain(self) -> None:
        """Say that no more should come; what comes is answered still."""
        self._draining = True

    def stop(self, timeout_s: float = 2.0) -> None:
        """Take no more, answer what waits, and end; what is not judged by then is refused."""
        with self._lock:
            self._closed = self._draining = True
        self._bell.ring()
        for thread in (self._thread, self._watch):
            if thread is not None:
                thread.join(timeout_s)
        self._fail_all(not_now("stopping"))

    def check(self, rows: int, nbytes: int, until: float) -> None:
        """Raises: RefusedError 503 if nobody judges; 429 if so much does not fit, or would not be
        judged before `until` at the rate of late."""
        why = "stopping" if self._closed and self._draining else self._why
        if self._closed or why:
            raise not_now(why or "starting")
        queue, left = self._queue, _SURE * (until - time.monotonic())
        ahead = queue.rows + (0 if self._hand is None else len(self._hand))
        soon = not ahead or self._rate is None or (ahead + rows) / self._rate < left
        if not (queue.fits(rows, nbytes) and soon):
            waits = 1.0 if self._rate is None else ahead / self._rate
            raise busy(f"{ahead} rows wait", waits)

    def submit(self, x: Tensor, until: float = math.inf) -> Future[R]:
        """The answer to x (n, ...), n >= 1, which was checked, once it is there.

        Cancel it, and its rows leave the queue.

        Args:
            until: seconds of time.monotonic(); rows not in a batch by then are refused with 504.

        Raises: RefusedError as `check` does.
        """
        answer: Future[R] = Future()
        self._put(entry := Entry(x, until, answer))
        answer.add_done_callback(lambda _: self._forget(entry))
        return answer

    async def answer(self, x: Tensor, until: float) -> R:
        """The answer to x. Raises: RefusedError, 504 at the loop's time `until`."""
        reply: Reply[R] = Reply(asyncio.get_running_loop())
        self._put(entry := Entry(x, until, reply))
        try:
            return await reply.by(until, late)
        except BaseException:
            self._forget(entry)
            raise

    def _put(self, entry: Entry[R]) -> None:
        with self._lock:
            if not self._queue.fits(entry.rows, entry.nbytes):
                self._expire()
            self.check(entry.rows, entry.nbytes, entry.until)
            self._queue.put(entry)
            wake, self._idle = self._idle, False
        if wake:
            self._bell.ring()

    def _start_thread(self) -> None:
        self._since = time.monotonic()
        self._thread = threading.Thread(
            target=self._work, args=(self._generation,), name="buckler-judge", daemon=True
        )
        self._thread.start()

    def _work(self, generation: int) -> None:
        # Small nets run best on one thread, and the event loop needs the other cores.
        torch.set_num_threads(1)
        try:
            while (batch := self._take(generation)) is not None:
                self._answer(batch, generation)
        finally:
            with self._lock:
                if generation == self._generation and not (self._closed and self._hand is None):
                    self._abandon("dead")

    def _take(self, generation: int) -> Batch[R] | None:
        """What is judged next, no rows for a heartbeat; None: end."""
        while True:
            with self._lock:
                if generation != self._generation:
                    return None
                self._expire()
                if len(self._queue) and (self._closed or not self._probe):
                    return self._in_hand(self._queue.take(self._limits.batch_rows))
                if self._closed:
                    return None
                wait = self._since + self._limits.heartbeat_s - time.monotonic()
                if self._probe or wait <= 0:
                    return self._in_hand(Batch(()))
                self._idle = True
            self._bell.wait(wait)

    def _in_hand(self, batch: Batch[R]) -> Batch[R]:
        self._probe = False
        # In this order: `age` reads both without the lock.
        self._since = time.monotonic()
        self._hand = batch
        return batch

    def _answer(self, batch: Batch[R], generation: int) -> None:
        """Judge outside the lock; who was abandoned meanwhile is not listened to."""
        result, failure = self._tried(batch)
        with self._lock:
            if generation != self._generation:
                return
            if isinstance(failure, Exception) or failure is None:
                self._count(len(batch), time.monotonic() - self._since)
                self._hand, self._since = None, time.monotonic()
            if failure is not None:
                self._failed(batch, failure)
            else:
                self._why = ""
        if result is not None and len(batch):
            try:
                batch.deliver(result, self._join)
            except Exception as error:
                self._fail(batch, could_not_judge(error))
        if failure is not None and not isinstance(failure, Exception):
            raise failure

    def _tried(self, batch: Batch[R]) -> tuple[R | None, BaseException | None]:
        try:
            x = batch.x() if len(batch) else self._blank
            result = self._judge(x)
            if len(result) != len(x):
                raise RuntimeError(f"the guard gave {len(result)} verdicts for {len(x)} rows")
            return result, None
        except BaseException as error:
            return None, error

    def _failed(self, batch: Batch[R], failure: BaseException) -> None:
        """These rows were too much for it, or every row is: the next heartbeat tells."""
        self._fail(batch, could_not_judge(failure))
        if len(batch):
            self._probe = True
        else:
            self._why = "broken"
            self._fail_all(not_now("broken"))

    def _count(self, rows: int, seconds: float) -> None:
        if not rows:
            return
        rate = rows / max(seconds, 1e-6)
        self._rate = rate if self._rate is None else _MEMORY * self._rate + (1 - _MEMORY) * rate
        if self._on_batch is not None:
            self._on_batch(rows)

    def _look(self) -> None:
        """Until it is closed: give up a batch that takes too long."""
        pause = min(0.1, self._limits.hung_after_s / 4)
        while not (self._closed and self._hand is None):
            time.sleep(pause)
            with self._lock:
                if self._hand is not None and self.age > self._limits.hung_after_s:
                    self._abandon("hung")

    def _abandon(self, why: str) -> None:
        """Refuse all who wait, at once; a fresh thread proves itself by a heartbeat first."""
        self._generation += 1
        self.abandoned += 1
        hand, self._hand = self._hand, None
        self._why = why if self.broken or self._closed else "restarting"
        self._probe = True
        if hand is not None:
            self._fail(hand, not_now(why))
        self._fail_all(not_now(why))
        if self.broken:
            self._closed = True
        elif not self._closed:
            self._start_thread()

    def _expire(self) -> None:
        for entry in self._queue.expired(time.monotonic()):
            entry.fail(late())

    def _forget(self, entry: Entry[R]) -> None:
        with self._lock:
            self._queue.remove(entry)

    def _fail(self, batch: Batch[R], error: RefusedError) -> None:
        for entry, _ in batch.pieces:
            entry.fail(error)
            self._forget(entry)  # the rest of a large one is not judged

    def _fail_all(self, error: RefusedError) -> None:
        with self._lock:
            for entry in self._queue.clear():
                entry.fail(error)
