"""What happened over time, of all gateways on the store: answers, attacks, scores."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.operating import alerts
from buckler.store.tables import events, reviews

SCORES: Final = "scores"
"""The kind of events that hold histograms, see `scores`."""
_LISTED: Final = 20


@dataclass(frozen=True)
class Slot:
    """A piece of time from `at` (unix seconds): answered rows by status, and those that reviewers
    have confirmed as adversarial since, by when they came."""

    at: float
    accepted: int
    suspicious: int
    confirmed: int


@dataclass(frozen=True)
class Sent:
    """A client whose rows were SUSPICIOUS: how many, and how many were confirmed adversarial."""

    client: str
    suspicious: int
    confirmed: int


@dataclass(frozen=True)
class Mark:
    """An alert on the timeline: when it was raised and last found."""

    at: float
    last: float
    tier: str
    title: str
    state: str


def slots(store: Store, since: float, until: float, step: float) -> list[Slot]:
    """Every slot of `step` seconds that begins in [since, until), empty ones too.

    since: is taken down to a whole step.
    """
    first, last = int(since // step), int(-(-until // step))
    # A sum a slot, each of one stretch of an index, in order: nothing is sorted.
    with store.read() as connection:
        return [_slot(connection, n * step, (n + 1) * step) for n in range(first, last)]


def total(store: Store, since: float, until: float) -> Slot:
    """All of [since, until)."""
    with store.read() as connection:
        return _slot(connection, since, until)


def marks(store: Store, since: float, until: float) -> list[Mark]:
    """Alerts that were raised then, oldest first; the newest hundred."""
    raised = (
        sa.select(alerts.c.first, alerts.c.last, alerts.c.tier, alerts.c.title, alerts.c.state)
        .where(alerts.c.first >= since, alerts.c.first < until)
        .order_by(alerts.c.first.desc(), alerts.c.id)
        .limit(100)
    )
    with store.read() as connection:
        return [Mark(*row) for row in connection.execute(raised)][::-1]


def senders(store: Store, since: float) -> list[Sent]:
    """Clients by their SUSPICIOUS rows since then, most first, twenty at most."""
    flagged = sa.func.sum(sa.case((reviews.c.origin == "suspicious", 1), else_=0))
    attacks = sa.func.sum(sa.case((reviews.c.outcome == "adversarial", 1), else_=0))
    rows = (
        sa.select(reviews.c.key_id, flagged, attacks)
        .where(reviews.c.created >= since, reviews.c.origin.in_(("suspicious", "sample")))
        .group_by(reviews.c.key_id)
        .having(flagged > 0)
        .order_by(attacks.desc(), flagged.desc(), reviews.c.key_id)
        .limit(_LISTED)
    )
    with store.read() as connection:
        return [Sent(str(k), int(s), int(c)) for k, s, c in connection.execute(rows)]


def scores(store: Store, since: float, bundle: str) -> dict[str, Counter[int]]:
    """Histograms of a bundle's rows since then: of each name, rows a bin."""
    told = sa.select(events.c.facts).where(events.c.at >= since, events.c.kind == SCORES)
    found: dict[str, Counter[int]] = {}
    with store.read() as connection:
        for facts in connection.scalars(told):
            if facts.get("bundle") == bundle:
                for name, counts in facts["bins"].items():
                    found.setdefault(name, Counter()).update(dict(enumerate(counts)))
    return found


_START: Final = sa.bindparam("start", type_=sa.Double)
_END: Final = sa.bindparam("end", type_=sa.Double)
_ADDED: Final = sa.select(
    sa.func.coalesce(sa.func.sum(events.c.accepted), 0),
    sa.func.coalesce(sa.func.sum(events.c.suspicious), 0),
).where(events.c.at >= _START, events.c.at < _END, events.c.kind == "request")
_ATTACKS: Final = sa.select(sa.func.count()).where(
    reviews.c.created >= _START,
    reviews.c.created < _END,
    reviews.c.origin != "known",
    reviews.c.outcome == "adversarial",
)


def _slot(connection: sa.Connection, start: float, end: float) -> Slot:
    stretch = {"start": start, "end": end}
    accepted, suspicious = connection.execute(_ADDED, stretch).one()
    confirmed = connection.scalar(_ATTACKS, stretch) or 0
    return Slot(start, int(accepted), int(suspicious), int(confirmed))
