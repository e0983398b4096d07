"""A gateway with a filled store: requests, reviews, alerts, a client under suspicion."""

import time
from typing import Any

import sqlalchemy as sa

from buckler.ops.alerts import Finding
from buckler.ops.review import Policy
from buckler.store import alerts, suspects
from buckler.store.decide import Decision, decide
from buckler.store.engine import Store
from buckler.store.intake import Event, Item, insert_events
from buckler.store.tables import reviews
from buckler.store.traffic import SCORES
from tests.store.made import add, item

from .tiny import DIGEST

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


def verdict(status: str, prediction: str = "left") -> dict[str, Any]:
    return {
        "prediction": prediction,
        "confidence": 0.7,
        "anomaly_score": 0.99,
        "status": status,
        "reasons": ["confidence"],
        "bundle": DIGEST,
    }


def requests(store: Store, *happened: tuple[float, int, int], key: str = "key") -> None:
    """(at, accepted, suspicious) each."""
    events = [(at, Event("request", f"r{at}", key, a, s)) for at, a, s in happened]
    with store.write() as connection:
        insert_events(connection, events)


def row(number: int, *, sampled: bool = False, key: str = "key") -> Item:
    status = "ACCEPTED" if sampled else "SUSPICIOUS"
    return item(number, sampled=sampled, key_id=key, verdict=verdict(status))


def say(store: Store, name: str, kind: str, label: str | None, who: str, now: float) -> None:
    """Decide an item, whatever the queue's order."""
    lease = f"lease-{name[:8]}-{who}"
    with store.write() as connection:
        held = {"lease_id": lease, "lease_by": who, "lease_until": now + 60}
        connection.execute(sa.update(reviews).where(reviews.c.id == name).values(**held))
        found = sa.select(reviews.c.version).where(reviews.c.id == name)
        version = connection.scalar(found)
    assert version is not None
    made = Decision(name, lease, who, version, kind, label)
    decide(store, made, now, Policy())


def fill(store: Store, now: float | None = None, outside: str = EVIL) -> float:
    """An hour of traffic with an attack in it. outside: every text that a client or another process
    chose. Returns: the time it ended."""
    now = time.time() if now is None else now
    requests(store, *((now - 60 * minute - 5, 20 + minute % 7, minute % 2) for minute in range(60)))
    requests(store, (now - 305, 4, 30), (now - 245, 6, 26), key=outside)
    bins = {"anomaly": [70] * 19 + [140], "confidence": [180, *([140] * 9)]}
    with store.write() as connection:
        told = Event(SCORES, facts={"bundle": DIGEST, "bins": bins})
        insert_events(connection, [(now - 30, told)])
    policy = Policy(client_cap=1000)
    for number in range(12):
        (name,) = add(store, row(number, key=outside), now=now - 300, policy=policy)
        if number < 8:
            say(store, name, "adversarial", "right", "ann", now - 100)
        elif number < 10:
            say(store, name, "accept", None, "ben", now - 100)
    for number in range(100, 130):
        (name,) = add(store, row(number, sampled=True), now=now - 400, policy=policy)
        if number == 100:
            say(store, name, "adversarial", "even", "ben", now - 90)
        else:
            say(store, name, "accept", None, "ann", now - 90)
    findings = (
        Finding("a", "page", "more rows than expected look unlike clean ones", {"rate": 0.21}),
        Finding(
            "b",
            "ticket",
            outside,
            {outside: outside},
            outside,
            "drift",
            DIGEST,
            (outside,),
            outside,
        ),
    )
    with store.write() as connection:
        for finding in findings:
            alerts.raise_alert(connection, finding, now - 200, (), "")
    mark = suspects.Mark("1" * 32, outside, "near", 14, now - 240, now + 3600, 3, "00")
    suspects.put(store, [mark], now)
    return now
