"""What each page of the dashboard shows: read from the store, one function a page."""

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Final

from buckler.ops.alarms import not_watched
from buckler.ops.alerts import link
from buckler.ops.rollout import ENDS
from buckler.serve import dash_tables as tables
from buckler.serve import figures, screen
from buckler.serve.evidence import evidence_of
from buckler.serve.money import money
from buckler.serve.observe import Metrics
from buckler.serve.parts import Parts
from buckler.serve.refusal import NOT_READY
from buckler.serve.reviewing import Visit
from buckler.serve.scores import ANOMALY, Scores, confidence_cuts
from buckler.serve.stored import Stored
from buckler.store import alerts, load, rollouts, suspects, traffic
from buckler.store.live import read_live
from buckler.store.report import stats

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86_400.0
SPANS: Final[Mapping[str, tuple[str, float, float]]] = {
    "minutes": ("last ten minutes, ten seconds each", 10 * _MINUTE, 10.0),
    "hour": ("last hour, a minute each", _HOUR, _MINUTE),
    "day": ("last day, ten minutes each", _DAY, 10 * _MINUTE),
    "week": ("last week, an hour each", 7 * _DAY, _HOUR),
}
_DAYS: Final = 14
_WORDS: Final = {"when": figures.when, "span": screen.span, "percent": screen.percent}
Facts = Mapping[str, Any]


@dataclass(frozen=True)
class Views:
    """Each gives the facts of a template, on a thread that may wait for the store."""

    parts: Parts
    stored: Stored
    metrics: Metrics
    scores: Scores

    def all(self) -> Mapping[str, tuple[str, Callable[[Visit], Facts]]]:
        return {
            "": ("dash_overview.html", self.overview),
            "attacks": ("dash_attacks.html", self.attacks),
            "confidence": ("dash_confidence.html", self.confidence),
            "rollout": ("dash_rollout.html", self.rollout),
            "load": ("dash_load.html", self.load),
            "impact": ("dash_impact.html", self.impact),
            "alerts": ("dash_alerts.html", self.alerts),
            "clients": ("dash_clients.html", self.clients),
            "bundle": ("dash_bundle.html", self.bundle),
        }

    def pulse(self) -> dict[str, Any]:
        """What every page is told while it is open; texts as they stand on the page."""
        return self.tiles(time.time())

    def tiles(self, now: float) -> dict[str, Any]:
        store = self.stored.store
        last = traffic.total(store, now - _MINUTE, now)
        hour = traffic.total(store, now - _HOUR, now)
        standing = alerts.standing(store)
        running = rollouts.running(store)
        why = self.parts.not_ready
        return {
            "health": f"not ready: {NOT_READY[why]}" if why else "ready",
            "minute": f"{last.accepted + last.suspicious:,}",
            "suspicious": f"{last.suspicious:,}",
            "review_rate": _rate(hour.suspicious, hour.accepted + hour.suspicious),
            "p50": _seconds(self.metrics.within(0.5, _judges)),
            "p95": _seconds(self.metrics.within(0.95, _judges)),
            "waiting": f"{load.waiting(store):,}",
            "pages": f"{standing['page']:,}",
            "tickets": f"{standing['ticket']:,}",
            "rollout": "none" if running is None else _state(running.rollout.state),
        }

    def overview(self, visit: Visit) -> Facts:
        name, slots = self._slots(visit)
        arms, counts = self.parts.arms, self.stored.recorder.counts()
        machine = {
            "the store keeps what must be kept": "yes" if self.stored.recorder.up else "no",
            "inputs that wait for the guard": arms.rows_waiting,
            "threads that hung or died": arms.abandoned,
            "events that found no room in the store": counts.dropped,
            "SUSPICIOUS rows answered and not kept": counts.degraded,
            "rows that no alarm watched": self.parts.watch.missed + self.stored.monitor.missed,
        }
        standing = [a for a in alerts.listed(self.stored.store, limit=20) if a.resolved is None]
        return {
            **_WORDS,
            "tiles": self.tiles(visit.now),
            "machine": machine,
            "standing": standing[:5],
            "rows": tables.verdict_rows(slots),
            "chosen": name,
            "spans": SPANS,
            "figure": figures.verdicts(slots),
        }

    def attacks(self, visit: Visit) -> Facts:
        name, slots = self._slots(visit)
        marks = traffic.marks(self.stored.store, slots[0].at, visit.now)
        return {
            **_WORDS,
            "rows": tables.attack_rows(slots),
            "marks": marks,
            "chosen": name,
            "spans": SPANS,
            "figure": figures.attacks(slots, marks),
        }

    def confidence(self, visit: Visit) -> Facts:
        guard = self.parts.arms.stable.guard
        self.scores.tell()
        found = traffic.scores(self.stored.store, visit.now - _HOUR, guard.digest)
        charts: list[dict[str, Any]] = []
        monitors = {d: (ref, state) for d, ref, state in self.stored.monitor.states()}
        reference, state = monitors.get(guard.digest, (None, None))
        cuts, calibrated = confidence_cuts(guard)
        even = reference is not None and reference.n > 0
        steps = [n / ANOMALY for n in range(ANOMALY + 1)]
        for name, edges, expected in (
            ("anomaly", steps, 1 / ANOMALY if even else None),
            ("confidence", [0.0, *cuts, 1.0], 1 / (len(cuts) + 1) if calibrated else None),
        ):
            bins = found.get(name, Counter())
            counts = [bins[n] for n in range(len(edges) - 1)]
            names = [_between(a, b) for a, b in pairwise(edges)]
            charts.append(
                {
                    "name": name,
                    "total": sum(counts),
                    "expected": expected,
                    "table": tables.bin_rows(names, figures.against(counts, expected)),
                    "figure": figures.compared(names, counts, expected),
                }
            )
        blind = [] if reference is None or state is None else not_watched(reference, state)
        at = {} if state is None else {name: at for name, (at, _, _) in state.charts.items()}
        levels = [[name, screen.percent(at[name])] for name in at]
        seen = 0 if state is None else state.seen
        return {**_WORDS, "charts": charts, "levels": levels, "blind": blind, "seen": seen}

    def rollout(self, visit: Visit) -> Facts:
        store = self.stored.store
        last = rollouts.last(store)
        found = None if last is None else rollouts.status(store, last)
        past = [
            [
                k.candidate[:12],
                _state(k.rollout.state),
                k.rollout.reason,
                k.actor,
                figures.when(k.created),
            ]
            for k in rollouts.history(store, 10)
        ]
        ended = found is None or found["state"] in ENDS
        facts = {**_WORDS, "found": found, "ended": ended, "past": past, "state": _state}
        if found is None:
            return facts
        return {
            **facts,
            "questions": tables.question_rows(found["evidence"]),
            "pairs": tables.pair_rows(found["evidence"]),
            "arms": tables.arm_rows(found["evidence"]),
        }

    def load(self, visit: Visit) -> Facts:
        store = self.stored.store
        days, found = load.decided_daily(store, visit.now, _DAYS), stats(store, visit.now)
        return {
            **_WORDS,
            "stats": found,
            "reviewers": tables.reviewer_rows(found),
            "rows": [[figures.when(at)[:10], count] for at, count in reversed(days)],
            "agreement": load.agreement(store, visit.now - _DAYS * _DAY),
            "since": _DAYS,
            "figure": figures.daily(days),
        }

    def impact(self, visit: Visit) -> Facts:
        read = partial(load.seen, self.stored.store)
        found = money(dict(visit.request.query_params), visit.now, read)
        claim = found["claim"]
        weeks = [] if claim is None else tables.week_rows(claim)
        return {**_WORDS, **found, "weeks": weeks, "money_of": tables.amount}

    def alerts(self, visit: Visit) -> Facts:
        found = alerts.listed(self.stored.store, limit=100)
        base = self.parts.settings.runbooks
        runbooks = {alert.id: link(base, alert.finding.runbook) for alert in found}
        return {**_WORDS, "alerts": found, "runbooks": runbooks}

    def clients(self, visit: Visit) -> Facts:
        marks = suspects.read(self.stored.store, visit.now)
        runs: dict[str, list[suspects.Mark]] = {}
        for mark in marks:
            runs.setdefault(mark.client, []).append(mark)
        streams = self.parts.streams
        return {
            **_WORDS,
            "policy": "off" if streams is None else streams.suspects.policy,
            "runs": tables.run_rows(runs),
            "senders": tables.sender_rows(traffic.senders(self.stored.store, visit.now - _DAY)),
        }

    def bundle(self, visit: Visit) -> Facts:
        arms, live = self.parts.arms, read_live(self.stored.store)
        guard = arms.stable.guard
        evidence = evidence_of(live.path if live is not None else "", guard.digest)
        parts = {
            "inputs": " × ".join(map(str, guard.spec.shape)),
            "classes": len(guard.spec.class_names),
            "members": len(guard.members),
            "views": len(guard.views),
            "detectors": ", ".join(d.name for d in guard.detectors) or "none",
            "rule": type(guard.rule).__name__,
            "answers": "as its members do" if guard.answering is None else str(guard.answering),
            "draws at random": "yes" if guard.random else "no",
        }
        ruling, comparison = evidence["ruling"], evidence["comparison"]
        return {
            **_WORDS,
            "live": live,
            "digest": guard.digest,
            "parts": parts,
            **evidence,
            "items": [] if ruling is None else tables.item_rows(ruling),
            "compared": [] if comparison is None else tables.system_rows(comparison),
        }

    def _slots(self, visit: Visit) -> tuple[str, list[traffic.Slot]]:
        given = visit.request.query_params.get("span", "hour")
        name = given if given in SPANS else "hour"
        _, long, step = SPANS[name]
        return name, traffic.slots(self.stored.store, visit.now - long, visit.now, step)


def _judges(route: str) -> bool:
    return route == "/v1/classify" or route.endswith("/infer")


def _rate(k: int, n: int) -> str:
    return screen.percent(k / n) if n else "no rows"


def _seconds(bound: float | None) -> str:
    if bound is None:
        return "no answers"
    return f"≤ {1000 * bound:g} ms" if bound < math.inf else "over 10 s"


def _state(state: str) -> str:
    """A rollout's state in words."""
    return state.replace("STEP_", "").replace("_", " ").lower() + (
        " %" if state.startswith("STEP_") else ""
    )


def _between(a: float, b: float) -> str:
    return f"{a:.3g} – {b:.3g}"
