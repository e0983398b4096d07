"""What was answered is shown to those who watch, on a thread of its own: no answer waits for it."""

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector
from torch import Tensor

from buckler.serve.judged import Judged
from buckler.serve.observe import Log

MAX_BYTES: Final = 64 << 20


@dataclass(frozen=True, eq=False)
class Seen:
    """A request that was answered.

    at: unix seconds.
    key_id: whose it was.
    x: (n, ...) the inputs as the guard had them.
    """

    at: float
    key_id: str
    request_id: str
    x: Tensor
    judged: Judged


class Watcher(Protocol):
    """Monitoring, shadow bundles, streams of queries."""

    def saw(self, seen: Sequence[Seen]) -> None:
        """Requests in the order of their answers, each shown once. Called by one thread only."""


class Watch:
    """Hands what was answered to every watcher.

    Args:
        log: of a watcher that failed, whose failure ends neither the thread nor the others' turn;
            None: silent.
        max_bytes: of inputs that wait; a request more is not shown, and counted.
    """

    def __init__(
        self, watchers: Sequence[Watcher], log: Log | None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        self._watchers = list(watchers)
        self._log = log
        self._max_bytes = max_bytes
        self._waiting: deque[Seen] = deque()
        self._bytes = 0
        self._change = threading.Condition()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self.missed = 0
        """Rows that nobody watched."""

    def add(self, watcher: Watcher) -> None:
        """One more, before the start."""
        self._watchers.append(watcher)

    def show(self, key_id: str, request_id: str, x: Tensor, judged: Judged) -> None:
        """Never waits."""
        if not self._watchers:
            return
        with self._change:
            if self._bytes and self._bytes + x.nbytes > self._max_bytes:
                self.missed += len(x)
                return
            self._bytes += x.nbytes
            self._waiting.append(Seen(time.time(), key_id, request_id, x, judged))
            self._change.notify()

    def start(self) -> None:
        if not self._watchers:
            return
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="buckler-watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """When nothing is answered any more: what waits is still shown, for a few seconds."""
        with self._change:
            self._stopping = True
            self._change.notify()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._stopping)
                if not self._waiting:
                    return
                seen = list(self._waiting)
                self._waiting.clear()
                self._bytes = 0
            for watcher in self._watchers:
                try:
                    watcher.saw(seen)
                except Exception as error:
                    if self._log is not None:
                        name = type(watcher).__name__
                        self._log({"event": "watch", "failed": name, "exc_info": error})


class WatchCounts(Collector):
    """How many answers went by unseen, for Prometheus."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "buckler_watch_missed", "Rows shown to no watcher, for lack of room", self._watch.missed
        )
