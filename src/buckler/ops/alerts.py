"""From what was found to who is told: one alert a key, told once and again after a cooldown.

Times are unix seconds and are passed in; nothing here reads a clock.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

from buckler.errors import UsageError
from buckler.ops.alarms import Alarm
from buckler.ops.charts import Tier

State = Literal["open", "acknowledged", "resolved"]
STATES: Final[tuple[State, ...]] = get_args(State)
COOLDOWN_S: Final[Mapping[Tier, float]] = {"page": 3600.0, "ticket": 86_400.0}
"""Seconds after which an alert that goes on is told again, unless somebody acknowledged it."""
QUIET_S: Final = 3600.0
"""Seconds without another alarm after which an alert of the monitor is over."""
EXAMPLES: Final = 3
MONITOR: Final = "monitor"

_SAYS: Final = {
    "tail": (
        "more rows than expected look unlike clean ones",
        "Look at the examples. If they are attacks, revoke or throttle the clients who send them.",
    ),
    "depth": (
        "rows lie far outside of what clean ones look like",
        "Look at the examples. If they are attacks, revoke or throttle the clients who send them.",
    ),
    "suspicious up": (
        "more rows than expected are SUSPICIOUS",
        "See whether one client sends them, and that reviewers keep up.",
    ),
    "suspicious down": (
        "fewer rows than expected are SUSPICIOUS",
        "An attack may pass unseen: review ACCEPTED rows, check that the bundle is the right one.",
    ),
    "class": (
        "one answer is given far more often",
        "See who sends these inputs: an attack that steers to a class, or traffic that changed.",
    ),
    "confidence up": (
        "answers are surer than on clean rows",
        "Compare recent inputs with the calibration data; if the data changed, calibrate anew.",
    ),
    "confidence down": (
        "answers are less sure than on clean rows",
        "Compare recent inputs with the calibration data; if the data changed, calibrate anew.",
    ),
}


@dataclass(frozen=True)
class Finding:
    """Something somebody should know.

    Args:
        key: the same for the same trouble: there is one alert a key that is not resolved.
        facts: numbers and words for people, JSON.
        action: what to do first.
        runbook: a section of docs/guide/monitoring.md, or a URL.
        bundle: digest, "" where it is about none.
        examples: review ids, of which three are kept.
        source: "monitor", or whoever posted it.
    """

    key: str
    tier: Tier
    title: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    action: str = ""
    runbook: str = ""
    bundle: str = ""
    examples: tuple[str, ...] = ()
    source: str = MONITOR

    def __post_init__(self) -> None:
        if not self.key or not self.title:
            raise UsageError("a finding needs a key and a title. Got an empty one")
        if self.tier not in get_args(Tier):
            raise UsageError(f"tier must be page or ticket. Got {self.tier!r}")
        object.__setattr__(self, "examples", tuple(self.examples[:EXAMPLES]))


@dataclass(frozen=True)
class Alert:
    """A finding and what became of it.

    count: how often it was found. told: when somebody was last told. by: who acknowledged it.
    """

    id: str
    finding: Finding
    state: State
    count: int
    first: float
    last: float
    told: float
    by: str | None = None
    acknowledged: float | None = None
    resolved: float | None = None


def new(id: str, finding: Finding, now: float) -> Alert:
    return Alert(id, finding, "open", 1, now, now, now)


def again(alert: Alert, finding: Finding, now: float) -> tuple[Alert, bool]:
    """The alert, found once more, and whether to tell.

    Told again: after the cooldown while nobody acknowledged it, when a ticket became a page, and
    when the clock went back, for nobody knows how long ago it was told.
    """
    worse = finding.tier == "page" and alert.finding.tier == "ticket"
    kept = finding if worse or finding.tier == "page" else replace(finding, tier=alert.finding.tier)
    waited = now - alert.told >= COOLDOWN_S[kept.tier] or now < alert.told
    tell = worse or (waited and alert.state == "open")
    return (
        replace(
            alert,
            finding=kept,
            state="open" if worse else alert.state,
            count=alert.count + 1,
            last=now,
            told=now if tell else alert.told,
        ),
        tell,
    )


def is_over(alert: Alert, now: float) -> bool:
    """Whether an alert of the monitor ended by itself; others end when their source says so."""
    quiet = abs(now - alert.last) >= QUIET_S  # also after a clock that was far ahead
    return alert.finding.source == MONITOR and alert.state != "resolved" and quiet


def found(alarm: Alarm, bundle: str, examples: tuple[str, ...] = ()) -> Finding:
    """What an alarm of a bundle's charts means to people."""
    kind = alarm.statistic if alarm.statistic in _SAYS else alarm.statistic.split(" ")[0]
    says, action = _SAYS[kind]
    return Finding(
        key=f"{bundle}/{alarm.statistic}",
        tier=alarm.tier,
        title=f"{alarm.statistic}: {says}",
        facts={
            "statistic": alarm.statistic,
            "rows": alarm.rows,
            "of the kind": alarm.hits,
            "rate": round(alarm.rate, 6),
            "expected": round(alarm.expected, 6),
        },
        action=action,
        runbook=kind.replace(" ", "-") if kind.startswith("suspicious") else kind.split(" ")[0],
        bundle=bundle,
        examples=examples,
    )


def link(base: str, runbook: str) -> str:
    """A section's name becomes a link into the guide at `base`; a URL stays one."""
    return runbook if "://" in runbook or not runbook else f"{base}#{runbook}"


def alertmanager(alert: Alert, base: str) -> dict[str, Any]:
    """The body that Alertmanager's webhook receivers know, version 4, of one alert.

    Args:
        base: URL of the guide that holds the runbook's sections.
    """
    finding = alert.finding
    status = "resolved" if alert.state == "resolved" else "firing"
    kind = str(finding.facts.get("statistic", finding.source))
    labels = {
        "alertname": f"Buckler {kind}",
        "severity": finding.tier,
        "bundle": finding.bundle[:12],
        "source": finding.source,
    }
    annotations = {
        "summary": finding.title,
        "description": ", ".join(f"{name} {value}" for name, value in finding.facts.items()),
        "action": finding.action,
        "runbook_url": link(base, finding.runbook),
        "examples": " ".join(finding.examples),
        "alert_id": alert.id,
    }
    one = {
        "status": status,
        "labels": labels,
        "annotations": annotations,
        "startsAt": _time(alert.first),
        "endsAt": "0001-01-01T00:00:00Z" if alert.resolved is None else _time(alert.resolved),
        "generatorURL": "",
        "fingerprint": hashlib.sha256(finding.key.encode()).hexdigest()[:16],
    }
    return {
        "version": "4",
        "groupKey": f'{{}}:{{key="{finding.key}"}}',
        "truncatedAlerts": 0,
        "status": status,
        "receiver": "buckler",
        "groupLabels": {"alertname": labels["alertname"]},
        "commonLabels": labels,
        "commonAnnotations": annotations,
        "externalURL": "",
        "alerts": [one],
    }


def in_words(body: Mapping[str, Any]) -> tuple[str, str]:
    """The title and text for people, of an Alertmanager body."""
    labels, notes = body["commonLabels"], body["commonAnnotations"]
    title = f"[{body['status']}, {labels['severity']}] {notes['summary']}"
    lines = [
        notes["description"],
        notes["action"],
        f"bundle {labels['bundle']}" if labels["bundle"] else "",
        f"examples: {notes['examples']}" if notes["examples"] else "",
        notes["runbook_url"],
    ]
    return title, "\n".join(line for line in lines if line)


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
