"""Watches what is answered: every few seconds what was seen goes to the store, and one of all
gateways folds it into the alarms of its bundle."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from scipy.special import expit
from scipy.stats import beta

from buckler.errors import BucklerError, StoreDownError
from buckler.guard import Guard
from buckler.guard.rule import Calibrated
from buckler.ops.alarms import State, not_watched
from buckler.ops.rows import CONFIDENCE, Reference, encode, ranks_of
from buckler.serve.observe import Log
from buckler.serve.watch import Seen
from buckler.stats import Threshold
from buckler.store import alerts, leases, monitors
from buckler.store.engine import Store
from buckler.store.monitors import Telling
from buckler.verdict import Verdict

_LEASE_S: Final = 15.0
_DAY_S: Final = 86_400.0
_MOST: Final = 1 << 17  # rows that wait for the store, a bundle
_ADDED: Final = 1 << 13  # rows in one entry
_APART: Final = 1e-6  # between tenths of the confidence, or rounding would choose one


@dataclass
class _Waiting:
    """Of one bundle: verdicts that are not in the store yet, and when the first was answered.

    asked: when reviewers' decisions were last looked at, unix seconds.
    """

    reference: Reference
    numbers: dict[str, int]
    state: State = field(default_factory=State)
    verdicts: list[Verdict] = field(default_factory=list)
    at: float = 0.0
    asked: float = 0.0


class Monitor:
    """A watcher, and a thread that hands on what it saw.

    Args:
        guards: those that answer now, whose verdicts are watched: a rollout brings another.
        arl: rows between two false alarms that page, of all gateways on the store together.
        log: events of what failed; None: silent.
        every_s: seconds between two rounds.
        clock: unix seconds.
    """

    def __init__(
        self,
        store: Store,
        guards: Callable[[], Sequence[Guard]],
        arl: float,
        telling: Telling,
        log: Log | None,
        *,
        every_s: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._arl = arl
        self.telling = telling
        self._log = log
        self._every_s = every_s
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._guards = guards
        self._bundles: dict[str, _Waiting] = {}
        self._change = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.alerts = {"page": 0, "ticket": 0}
        self.missed = 0
        """Rows that nobody watched: of another bundle, or more than wait for the store."""

    def saw(self, seen: Sequence[Seen]) -> None:
        self._meet()
        with self._change:
            for each in seen:
                for verdict in each.judged.verdicts:
                    waiting = self._bundles.get(verdict.bundle)
                    if waiting is None or len(waiting.verdicts) >= _MOST:
                        self.missed += 1
                        continue
                    if not waiting.verdicts:
                        waiting.at = each.at
                    waiting.verdicts.append(verdict)

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="buckler-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """When nothing is answered any more: what was seen is added; another gateway folds it, or
        this one when it comes back."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        with contextlib.suppress(BucklerError):
            self._add()
            for digest, _ in self._known():
                leases.give(self._store, _lease(digest), self._holder, self._clock())

    def round(self) -> None:
        """Raises: StoreDownError, DataError."""
        self._meet()
        self._add()
        for digest, waiting in self._known():
            now = self._clock()
            if leases.take(self._store, _lease(digest), self._holder, now, _LEASE_S) is None:
                waiting.state = monitors.read(self._store, digest)
                continue
            more = True
            while more and not self._stop.is_set():
                waiting.state, _, more = monitors.fold(
                    self._store, digest, waiting.reference, self._arl, now, self.telling
                )
            alerts.end_quiet(self._store, now, self.telling.ways, self.telling.base)
            review = waiting.reference.review
            if review is not None and abs(now - waiting.asked) >= _DAY_S:
                waiting.asked = now
                monitors.review_outcome(
                    self._store, digest, waiting.state, review[2], now, self.telling
                )
        self.alerts = alerts.standing(self._store)

    def states(self) -> list[tuple[str, Reference, State]]:
        """Each bundle's digest, reference and state, as of the last round."""
        return [(digest, each.reference, each.state) for digest, each in self._known()]

    def _meet(self) -> None:
        """Guards that are new here."""
        for guard in self._guards():
            if guard.digest not in self._bundles:
                waiting = _waiting(guard)
                with self._change:
                    self._bundles.setdefault(guard.digest, waiting)

    def _known(self) -> list[tuple[str, _Waiting]]:
        with self._change:
            return list(self._bundles.items())

    def _add(self) -> None:
        """What was seen into the store; with the store down it waits, up to _MOST rows."""
        for digest, waiting in self._known():
            with self._change:
                verdicts, at, waiting.verdicts = waiting.verdicts, waiting.at, []
            for start in range(0, len(verdicts), _ADDED):
                codes = _codes(waiting, verdicts[start : start + _ADDED])
                try:
                    monitors.add(self._store, digest, at, codes)
                except StoreDownError:
                    with self._change:
                        waiting.verdicts, waiting.at = verdicts[start:] + waiting.verdicts, at
                    raise

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.round()
            except Exception as error:  # whatever it was, the next round may go well
                if self._log is not None:
                    self._log({"event": "monitor", "exc_info": error})


class MonitorCounts(Collector):
    """Where the alarms stand: the same numbers from every gateway on the store."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor

    def collect(self) -> Iterator[Metric]:
        names = ("bundle",)
        level = GaugeMetricFamily(
            "buckler_monitor_level", "A chart, 1 is its limit", labels=(*names, "statistic")
        )
        rows = CounterMetricFamily("buckler_monitor_rows", "Rows watched", labels=names)
        found = CounterMetricFamily("buckler_monitor_alarms", "Alarms", labels=names)
        blind = GaugeMetricFamily("buckler_monitor_blind", "Kinds not watched now", labels=names)
        for digest, reference, state in self._monitor.states():
            bundle = digest[:12]
            for statistic, (at, _, _) in state.charts.items():
                level.add_metric((bundle, statistic), at)
            rows.add_metric((bundle,), state.seen)
            found.add_metric((bundle,), state.alarms)
            blind.add_metric((bundle,), len(not_watched(reference, state)))
        yield from (level, rows, found, blind)
        standing = GaugeMetricFamily("buckler_alerts", "Alerts not resolved", labels=("tier",))
        for tier, count in self._monitor.alerts.items():
            standing.add_metric((tier,), count)
        yield standing
        yield CounterMetricFamily(
            "buckler_monitor_missed", "Rows that nobody watched", self._monitor.missed
        )


def reference_of(guard: Guard) -> Reference:
    """What the guard's calibration says of clean rows; little for the article's own thresholds."""
    rule = guard.rule
    if not isinstance(rule, Calibrated):
        return Reference(guard.spec.class_names)
    n = len(rule.combined)
    thresholds = rule.by_class or (rule.calibration,)
    review = (
        min(map(_least, thresholds)),
        float(np.mean([each.expected for each in thresholds])),
        max(each.upper for each in thresholds),
    )
    names = [detector.name for detector in guard.detectors]
    sure: tuple[float, ...] = ()
    if "confidence" in names and guard.answering is None:  # else it is of another answer
        scores = rule.separate[names.index("confidence")]
        tenths = np.quantile(expit(-scores), np.arange(1, CONFIDENCE) / CONFIDENCE)
        if np.diff(tenths).min() > _APART and tenths[-1] < 1 - _APART:
            sure = tuple(tenths.tolist())
    return Reference(tuple(guard.spec.class_names), n, ranks_of(n), review, sure)


def _least(threshold: Threshold) -> float:
    """The flag rate that this one stays above with 95 % over the draw of its rows."""
    above = round(threshold.expected * (threshold.n + 1))
    return float(beta.ppf(0.05, above, threshold.n + 1 - above))


def _waiting(guard: Guard) -> _Waiting:
    reference = reference_of(guard)
    return _Waiting(reference, {name: n for n, name in enumerate(reference.classes)})


def _codes(waiting: _Waiting, verdicts: Sequence[Verdict]) -> np.ndarray:
    return encode(
        waiting.reference,
        [verdict.anomaly_score for verdict in verdicts],
        [verdict.status == "SUSPICIOUS" for verdict in verdicts],
        [waiting.numbers[verdict.prediction] for verdict in verdicts],
        [verdict.confidence for verdict in verdicts],
    )


def _lease(digest: str) -> str:
    return f"monitor {digest}"
