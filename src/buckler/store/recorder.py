"""Between the gateway and the disk: what must be there before the answer, and what may follow.

One thread commits SUSPICIOUS rows, whatever waits in one transaction, so that many requests share
one wait for the disk. Another commits the rest, off the path of any request.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from buckler.errors import StoreDownError
from buckler.ops.review import Policy
from buckler.store.counts import Counts
from buckler.store.engine import Store
from buckler.store.intake import Arrival, Event, Item, arrivals_of, insert_arrivals, insert_events

__all__ = ["Counts", "Event", "Item", "OnDown", "Recorder"]

OnDown = Literal["fail_closed", "degrade"]

_GROUP_ROWS: Final = 256
_OFF_PATH_S: Final = 0.05
_AGAIN_S: Final = 0.25
_BLOB_WRITERS: Final = 8  # a disk flushes several files in the time of one
_QUICK: Final = 64 * 1024  # bytes that the event loop may hash itself: a thread costs more


@dataclass(frozen=True, eq=False)
class _Waiting:
    arrivals: list[Arrival]
    done: Future[None]


class Recorder:
    """Keeps what the gateway must not lose.

    Args:
        on_down: with the store down, `suspicious` raises ("fail_closed") or gives empty ids
            ("degrade"). Either way it works again once the store does.
        max_rows: SUSPICIOUS rows that may wait for the disk, and things off the path.
        max_bytes: of the inputs that wait off the path.
        wait_s: seconds a SUSPICIOUS row waits for the disk before the store counts as down.
        clock: unix seconds.
    """

    def __init__(
        self,
        store: Store,
        policy: Policy | None = None,
        *,
        on_down: OnDown = "fail_closed",
        max_rows: int = 4096,
        max_bytes: int = 64 * 1024 * 1024,
        wait_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._policy = policy or Policy()
        self._on_down = on_down
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._wait_s = wait_s
        self._clock = clock
        self._changed = threading.Condition()
        self._durable: deque[_Waiting] = deque()
        self._rest: deque[tuple[float, Event | Arrival]] = deque()
        self._counts, self._failed, self._rest_failed = Counts(), False, False
        self._busy_since: float | None = None
        self._closed = True
        self._threads: list[threading.Thread] = []
        self._writers: ThreadPoolExecutor | None = None

    @property
    def up(self) -> bool:
        """The last commit worked, none hangs, both threads run. A store that failed is tried again
        whether rows come or not."""
        alive = bool(self._threads) and all(thread.is_alive() for thread in self._threads)
        return alive and not (self._failed or self._rest_failed or self._hangs())

    def counts(self) -> Counts:
        with self._changed:
            return self._counts

    def start(self) -> None:
        self._closed = False
        self._writers = ThreadPoolExecutor(_BLOB_WRITERS, "buckler-blobs")
        self._threads = [
            threading.Thread(target=self._keep_durable, name="buckler-store", daemon=True),
            threading.Thread(target=self._keep_rest, name="buckler-record", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take no more, keep what waits, and end; what is not kept by then is refused."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        with self._changed:
            left, self._durable = self._durable, deque()
            self._count(dropped=len(self._rest))
            self._rest.clear()
        _fail(left, StoreDownError("the store is closed: the gateway is stopping"))
        if self._writers is not None:
            self._writers.shutdown(wait=False)

    async def suspicious(self, items: Sequence[Item]) -> tuple[str, ...]:
        """The review ids of the rows, which are on the disk with their inputs.

        A row that was kept before keeps its id. With the store down and `on_down` "degrade", every
        id is "".

        Raises: StoreDownError with the store down and `on_down` "fail_closed"; DataError for an
            item that no store could keep.
        """
        if not items:
            return ()
        make = partial(arrivals_of, items, self._clock(), self._policy)
        big = sum(len(item.content) for item in items) > _QUICK
        made = await asyncio.to_thread(make) if big else make()
        try:
            async with asyncio.timeout(self._wait_s):
                await asyncio.wrap_future(self._submit(made))
        except (TimeoutError, StoreDownError) as error:
            return self._without(len(items), error)
        return tuple(each.id for each in made)

    def record(self, thing: Event | Item) -> None:
        """Keep it soon, off the path: within 50 ms or 256 things. Never waits; when too many wait
        already it is dropped, and counted. Raises: DataError for an item no store could keep."""
        now = self._clock()
        entry = arrivals_of([thing], now, self._policy)[0] if isinstance(thing, Item) else thing
        with self._changed:
            if self._closed or not self._has_room(entry):
                return self._count(dropped=1)
            self._rest.append((now, entry))
            if len(self._rest) == 1 or self._full():
                self._changed.notify_all()

    def _submit(self, arrivals: list[Arrival]) -> Future[None]:
        entry = _Waiting(arrivals, Future())
        with self._changed:
            if self._closed:
                raise StoreDownError("the store is closed: the gateway is starting or stopping")
            if self._hangs():
                raise StoreDownError(f"the store did not answer for {self._wait_s:g} s")
            if sum(len(other.arrivals) for other in self._durable) >= self._max_rows:
                raise StoreDownError(f"{self._max_rows} rows wait for the store already")
            self._durable.append(entry)
            self._changed.notify_all()
        return entry.done

    def _without(self, rows: int, error: Exception) -> tuple[str, ...]:
        if self._on_down == "degrade":
            self._count(degraded=rows)
            return ("",) * rows
        self._count(refused=rows)
        if isinstance(error, StoreDownError):
            raise error
        raise StoreDownError(f"the store did not answer within {self._wait_s:g} s") from error

    def _count(self, **more: int) -> None:
        with self._changed:  # re-entrant: the lock of a Condition is
            now = self._counts
            self._counts = replace(now, **{k: getattr(now, k) + n for k, n in more.items()})

    def _hangs(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > self._wait_s

    def _keep_durable(self) -> None:
        while (group := self._take()) is not None:
            self._busy_since = time.monotonic()
            try:
                if group:
                    self._commit(group)
                else:
                    self._try_again()
            finally:
                self._busy_since = None

    def _try_again(self) -> None:
        with contextlib.suppress(StoreDownError):
            self._store.blobs.probe()
            self._write([], [], durable=True)
            self._failed = False

    def _take(self) -> list[_Waiting] | None:
        """Whatever waits, about 256 rows; none when it is time to try a store that failed again;
        None once it is closed and nothing waits."""
        group: list[_Waiting] = []
        rows = 0
        with self._changed:
            while not group:
                again_s = _AGAIN_S if self._failed else None
                self._changed.wait_for(lambda: self._durable or self._closed, again_s)
                if not self._durable:
                    return None if self._closed else []
                while self._durable and rows < _GROUP_ROWS:
                    entry = self._durable.popleft()
                    # False: the caller stopped waiting.
                    if entry.done.set_running_or_notify_cancel():
                        group.append(entry)
                        rows += len(entry.arrivals)
        return group

    def _commit(self, group: list[_Waiting], again: bool = True) -> None:
        arrivals = [each for entry in group for each in entry.arrivals]
        try:
            self._write(arrivals, [], durable=True)
        except StoreDownError as error:
            self._failed = True
            _fail(group, error)
            return
        except Exception as error:  # one row may spoil it for all: once more, each for itself
            if again:
                for entry in group:
                    self._commit([entry], again=False)
                return
            _fail(group, StoreDownError(f"the store does not take this row: {error}"))
            return
        self._failed = False
        self._count(committed=len(arrivals), groups=1)
        for entry in group:
            entry.done.set_result(None)

    def _keep_rest(self) -> None:
        while group := self._take_rest():
            try:
                self._write_rest(group)
            except StoreDownError:
                self._rest_failed = True
                with self._changed:
                    self._rest.extendleft(reversed(group))
                    if self._closed:
                        return
                    self._changed.wait(_AGAIN_S)
                continue
            self._rest_failed = False

    def _take_rest(self) -> list[tuple[float, Event | Arrival]]:
        with self._changed:
            self._changed.wait_for(lambda: self._rest or self._closed)
            self._changed.wait_for(lambda: self._closed or self._full(), _OFF_PATH_S)
            return [self._rest.popleft() for _ in range(min(_GROUP_ROWS, len(self._rest)))]

    def _has_room(self, entry: Event | Arrival) -> bool:
        waiting = [each for _, each in self._rest] if isinstance(entry, Arrival) else []
        held = sum(len(each.content) for each in (*waiting, entry) if isinstance(each, Arrival))
        return len(self._rest) < self._max_rows and held <= self._max_bytes

    def _full(self) -> bool:
        return len(self._rest) >= _GROUP_ROWS

    def _write_rest(self, group: list[tuple[float, Event | Arrival]]) -> None:
        arrivals = [each for _, each in group if isinstance(each, Arrival)]
        happened = [(at, each) for at, each in group if isinstance(each, Event)]
        try:
            self._write(arrivals, happened, durable=False)
        except StoreDownError:
            raise
        except Exception:  # one may spoil it for all: each for itself
            if len(group) == 1:
                return self._count(dropped=1)
            for entry in group:
                self._write_rest([entry])
            return
        self._count(kept=len(group))

    def _write(
        self, arrivals: list[Arrival], happened: list[tuple[float, Event]], *, durable: bool
    ) -> None:
        """Inputs first, then the rows that speak of them, in one transaction."""
        assert self._writers is not None
        blobs = self._store.blobs
        contents = {str(each.values["blob"]): each.content for each in arrivals}
        new = dict(self._writers.map(blobs.keep, contents.values()))
        with self._store.write(durable=durable) as connection:
            insert_arrivals(connection, arrivals, self._clock(), self._policy)
            insert_events(connection, happened)
            for digest, content in contents.items():
                # One that was there may have been erased since; from here on it cannot be.
                if not new[digest] and not blobs.has(digest):
                    blobs.put(content)


def _fail(group: Sequence[_Waiting], error: StoreDownError) -> None:
    for entry in group:
        if entry.done.running() or entry.done.set_running_or_notify_cancel():
            entry.done.set_exception(error)
