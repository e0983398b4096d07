"""Counts over time, on SQLite and on PostgreSQL, against ones made by hand."""

import sqlalchemy as sa

from buckler.ops.counted import Stratum
from buckler.ops.review import Policy
from buckler.store import load, traffic
from buckler.store.decide import Decision, decide
from buckler.store.intake import Event, insert_events
from buckler.store.reviews import claim
from buckler.store.tables import decisions

from .made import add, item

NOW = 1_800_000_000.0
POLICY = Policy()


def requests(store, *happened):
    with store.write() as connection:
        insert_events(connection, [(at, Event("request", "", "k", a, s)) for at, a, s in happened])


def say(store, now, who, kind, label=None):
    """Take the next item and decide it; its id."""
    found = claim(store, who, now, POLICY)
    made = Decision(found.id, found.lease_id, who, found.version, kind, label)
    decide(store, made, now, POLICY)
    return found.id


def test_slots_take_what_begins_in_them_and_nothing_else(store):
    requests(store, (NOW, 1, 0), (NOW + 59.9, 2, 1), (NOW + 60, 4, 0), (NOW + 179.99, 8, 5))
    requests(store, (NOW - 0.01, 100, 100), (NOW + 180, 100, 100))
    with store.write() as connection:
        insert_events(connection, [(NOW + 1, Event("login", accepted=50))])
    found = traffic.slots(store, NOW + 30, NOW + 170, 60)
    assert [(s.at - NOW, s.accepted, s.suspicious) for s in found] == [
        (0, 3, 1),
        (60, 4, 0),
        (120, 8, 5),
    ]
    total = traffic.total(store, NOW, NOW + 180)
    assert (total.accepted, total.suspicious) == (15, 6)


def test_attacks_stand_where_their_inputs_came(store):
    add(store, item(1), now=NOW)
    add(store, item(2, key_id="other"), now=NOW + 60)
    for _ in range(2):
        say(store, NOW + 100, "ann", "adversarial", "dog")
    add(store, item(3), now=NOW + 61)
    found = traffic.slots(store, NOW, NOW + 120, 60)
    assert [s.confirmed for s in found] == [1, 1]
    sent = [(s.client, s.suspicious, s.confirmed) for s in traffic.senders(store, NOW)]
    assert sent == [("key", 2, 1), ("other", 1, 1)]
    assert load.waiting(store) == 1
    days = load.decided_daily(store, NOW + 200, 2)
    assert [count for _, count in days] == [0, 2]


def test_decisions_by_status_without_the_corrupted_ones(store):
    requests(store, (NOW, 90, 3))
    for number in range(3):
        add(store, item(number), now=NOW)
    say(store, NOW + 1, "ann", "adversarial", "dog")
    say(store, NOW + 1, "ann", "corrupted")
    found = load.seen(store, NOW, NOW + 60)
    assert found.suspicious == Stratum(3, 1, 1, 1)
    assert found.accepted == Stratum(90, 0, 0, 0)


def test_histograms_of_all_gateways_are_added_up(store):
    def told(bundle, bins):
        return (NOW, Event(traffic.SCORES, facts={"bundle": bundle, "bins": {"anomaly": bins}}))

    with store.write() as connection:
        insert_events(connection, [told("a", [1, 2]), told("a", [3, 0]), told("b", [9, 9])])
    assert traffic.scores(store, NOW, "a") == {"anomaly": {0: 4, 1: 2}}
    assert traffic.scores(store, NOW + 1, "a") == {}


def test_agreement_is_of_pairs_that_answered_the_same_item(store):
    assert load.agreement(store, 0.0) is None
    names = [add(store, item(n), now=NOW)[0] for n in range(2)]
    rows = [(0, "ann", "adversarial", "dog"), (0, "ben", "adversarial", "dog")]
    rows += [(1, "ann", "accept", None), (1, "ben", "label", "dog"), (1, "cid", "unsure", None)]
    with store.write() as connection:
        for n, who, kind, label in rows:
            given = {"id": f"{n}{who}", "review_id": names[n], "reviewer": who, "kind": kind}
            more = {"label": label, "note": "", "idempotency_key": f"{n}", "undo_until": NOW}
            connection.execute(sa.insert(decisions).values(**given, **more, at=NOW))
    found = load.agreement(store, 0.0)
    assert (found.k, found.n) == (1, 2)
