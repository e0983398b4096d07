"""What an operator sees of each request: one log line, and counts."""

import sys
from collections import Counter as Counts
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from buckler.store.recorder import Recorder
from buckler.verdict import Verdict

Log = Callable[[dict[str, Any]], None]
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@dataclass
class Trace:
    """One request, filled in on its way."""

    request_id: str
    route: str
    code: int = 500
    refusal: str = ""
    key_id: str = ""
    roles: frozenset[str] = frozenset()
    verdicts: Sequence[Verdict] = ()
    failure: BaseException | None = field(default=None, repr=False)


_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


def batch_sizes(registry: CollectorRegistry) -> Callable[[int], None]:
    """Counts the rows of each batch."""
    sizes = Histogram(
        "buckler_batch_rows", "Inputs judged together", buckets=_ROWS, registry=registry
    )
    return sizes.observe


class Gauged(Protocol):
    """What the metrics read of a runner."""

    @property
    def rows_waiting(self) -> int: ...
    @property
    def bytes_waiting(self) -> int: ...
    @property
    def age(self) -> float: ...
    @property
    def abandoned(self) -> int: ...


class Metrics:
    """Prometheus counts in a registry of their own, so that two gateways share none."""

    def __init__(
        self, runner: Gauged, registry: CollectorRegistry, ready: Callable[[], bool]
    ) -> None:
        self._registry = registry
        self._verdicts = Counter(
            "buckler_verdicts", "Verdicts", ("status", "bundle"), registry=self._registry
        )
        self._requests = Counter(
            "buckler_requests", "Requests answered", ("route", "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "buckler_request_seconds",
            "Time from a request's head to its answer",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._refusals = Counter(
            "buckler_refusals", "Requests refused", ("reason",), registry=self._registry
        )
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "queue_rows": ("Inputs that wait", lambda: runner.rows_waiting),
            "queue_bytes": ("Bytes of the inputs that wait", lambda: runner.bytes_waiting),
            "batch_age_seconds": ("Since the batch in hand was taken", lambda: runner.age),
            "ready": ("1 if requests may be sent", ready),
            "runner_abandoned": ("Threads that hung or died", lambda: runner.abandoned),
        }
        for name, (meaning, read) in gauges.items():
            Gauge(f"buckler_{name}", meaning, registry=self._registry).set_function(read)

    def count(self, trace: Trace, seconds: float) -> None:
        self._requests.labels(trace.route, str(trace.code)).inc()
        self._seconds.labels(trace.route).observe(seconds)
        if trace.refusal:
            self._refusals.labels(trace.refusal).inc()
        for verdict in trace.verdicts:
            self._verdicts.labels(verdict.status, verdict.bundle[:12]).inc()

    def within(self, share: float, routes: Callable[[str], bool]) -> float | None:
        """Seconds that this share of this process's answers took at most, as exact as the
        histogram: the end of a bucket, infinity past the last. None before any answer."""
        buckets: Counts[float] = Counts()
        for metric in self._seconds.collect():
            for sample in metric.samples:
                if sample.name.endswith("_bucket") and routes(sample.labels["route"]):
                    buckets[float(sample.labels["le"])] += int(sample.value)
        ends = sorted(buckets)
        if not ends or not buckets[ends[-1]]:
            return None
        return next(end for end in ends if buckets[end] >= share * buckets[ends[-1]])

    def page(self) -> bytes:
        return generate_latest(self._registry)


class Sender(Protocol):
    """What the metrics read of who sends webhooks."""

    @property
    def sent(self) -> int: ...
    @property
    def failed(self) -> int: ...


class StoreCounts(Collector):
    """What became of what must not be lost."""

    def __init__(self, recorder: Recorder, sender: Sender) -> None:
        self._recorder = recorder
        self._sender = sender

    def collect(self) -> Iterator[Metric]:
        counts = self._recorder.counts()
        for name, meaning, value in (
            ("recorded_rows", "SUSPICIOUS rows on the disk before their answer", counts.committed),
            ("recorded_groups", "Commits that these rows shared", counts.groups),
            ("recorded_later", "Events and drawn rows kept off the path", counts.kept),
            ("recorded_dropped", "Events and drawn rows that found no room", counts.dropped),
            ("degraded_rows", "SUSPICIOUS rows answered and not kept", counts.degraded),
            ("unkept_rows", "SUSPICIOUS rows refused, not kept", counts.refused),
            ("webhooks_sent", "Messages that were taken", self._sender.sent),
            ("webhooks_failed", "Tries that failed", self._sender.failed),
        ):
            yield CounterMetricFamily(f"buckler_{name}", meaning, value)
        yield GaugeMetricFamily("buckler_store_up", "1 if rows can be kept", self._recorder.up)


def log_line(trace: Trace, seconds: float) -> dict[str, Any]:
    """The event of one request; the traceback of a failure stays on this side."""
    event: dict[str, Any] = {
        "event": "request",
        "request_id": trace.request_id,
        "route": trace.route,
        "code": trace.code,
        "key": trace.key_id,
        "refusal": trace.refusal,
        "rows": len(trace.verdicts),
        "seconds": round(seconds, 6),
        "statuses": dict(Counts(verdict.status for verdict in trace.verdicts)),
    }
    return event if trace.failure is None else {**event, "exc_info": trace.failure}


def stderr_log() -> Log:
    """One line of JSON an event, to stderr."""
    logger = structlog.wrap_logger(
        structlog.WriteLogger(sys.stderr),
        processors=[
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    return lambda event: logger.info(**event)
