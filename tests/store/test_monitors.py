"""What several processes saw becomes one state, once each, and alarms become alerts."""

import threading

import numpy as np
import pytest
import sqlalchemy as sa

from buckler.errors import ConflictError, DataError
from buckler.ops.alarms import State, step
from buckler.ops.alerts import QUIET_S, Finding
from buckler.ops.rows import Reference, encode, ranks_of
from buckler.store import alerts, audit, monitors, outbox
from buckler.store.alerts import WEBHOOK, raise_alert
from buckler.store.monitors import Telling
from buckler.store.operating import alerts as alerts_table
from buckler.store.operating import monitor_rows
from buckler.store.operating import monitors as monitors_table
from buckler.store.tables import reviews
from tests.store.made import add, item

N = 10_000
REFERENCE = Reference(("cat", "dog"), N, ranks_of(N), (0.008, 0.01, 0.012))
BUNDLE = "b" * 64
TELLING = Telling((WEBHOOK,), "https://guide")
ARL = 1e6


def rows(count, seed=0, deep=0.0):
    random = np.random.default_rng(seed)
    p = random.random(count)
    p[random.random(count) < deep] = 1e-5
    p = np.ceil(p * (N + 1)) / (N + 1)
    return encode(REFERENCE, 1 - p, p <= 0.01, random.integers(0, 2, count), p)


def fold(store, now=100.0):
    return monitors.fold(store, BUNDLE, REFERENCE, ARL, now, TELLING)


def find(store, finding, now=0.0):
    with store.write() as connection:
        return raise_alert(connection, finding, now, TELLING.ways, TELLING.base)


FINDING = Finding("key", "ticket", "title", {"n": 1}, source="red team")


def test_several_processes_are_one_state(store):
    parts = [rows(500, seed) for seed in range(4)]
    for at, part in enumerate(parts):
        monitors.add(store, BUNDLE, float(at), part)
    state, found, more = fold(store)
    expected, _ = step(REFERENCE, ARL, State(), np.concatenate(parts), 0.0)
    assert (state.charts, state.seen) == (expected.charts, 2000)
    assert (found, more) == ((), False)
    assert monitors.read(store, BUNDLE) == state, "a restart finds it as it was"
    assert fold(store) == (state, (), False), "nothing counts twice"
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(monitor_rows)) == 0


def test_an_alarm_is_an_alert_with_examples_told_once(store):
    names = add(store, *(item(n, fingerprint=f"{n:016x}") for n in range(5)), now=50.0)
    monitors.add(store, BUNDLE, 90.0, rows(3000, deep=0.05))
    _, found, _ = fold(store)
    assert {alarm.statistic for alarm in found} >= {"depth", "tail"}
    (first, *_) = standing = alerts.listed(store)
    assert first.finding.tier == "page"
    assert len(first.finding.examples) == 3
    assert set(first.finding.examples) <= set(names)
    assert len(standing) == len({alarm.statistic for alarm in found})
    assert len(outbox.take(store, 100.0, topic="alert.")) == len(standing)
    monitors.add(store, BUNDLE, 110.0, rows(3000, 1, deep=0.05))
    fold(store, 120.0)
    assert outbox.take(store, 120.0, topic="alert.") == []
    again = {each.id: each for each in alerts.listed(store)}[first.id]
    assert again.count == 2


def test_who_is_late_folds_nothing(store, monkeypatch):
    """Another holder folds the same rows while thresholds are solved."""
    monitors.add(store, BUNDLE, 0.0, rows(500))
    real, late = monitors.step, []

    def slow(*given):
        if not late:
            late.append(True)
            assert fold(store)[0].seen == 500
        return real(*given)

    monkeypatch.setattr("buckler.store.monitors.step", slow)
    state, found, more = fold(store)
    assert (state.seen, found, more) == (0, (), True)
    assert monitors.read(store, BUNDLE).seen == 500


def test_a_crash_between_loses_and_doubles_nothing(store, monkeypatch):
    monitors.add(store, BUNDLE, 0.0, rows(3000, deep=0.05))

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("buckler.store.monitors.raise_alert", die)
    with pytest.raises(KeyboardInterrupt):
        fold(store)
    assert monitors.read(store, BUNDLE) == State()
    assert alerts.listed(store) == []
    monkeypatch.undo()
    state, found, _ = fold(store)
    assert state.seen == 3000
    assert found


def test_rows_from_the_future_count_now(store):
    monitors.add(store, BUNDLE, 1e15, rows(10))
    state, _, _ = fold(store, 3600.0 * 5)
    assert list(state.season.hours) == [77]


def test_a_damaged_state_is_told(store):
    monitors.add(store, BUNDLE, 0.0, rows(10))
    fold(store)
    with store.write() as connection:
        connection.execute(sa.update(monitors_table).values(state={"seen": "many"}))
    with pytest.raises(DataError, match="the state of the alarms cannot be read"):
        monitors.read(store, BUNDLE)


def test_one_alert_a_key_whoever_races(store):
    done = [threading.Thread(target=find, args=(store, FINDING)) for _ in range(8)]
    for each in done:
        each.start()
    for each in done:
        each.join()
    (one,) = alerts.listed(store)
    assert one.count == 8
    assert len(outbox.take(store, 0.0)) == 1


def test_quiet_ends_what_the_monitor_found_and_nothing_else(store):
    first = find(store, Finding("mine", "page", "title"))
    find(store, FINDING)
    assert alerts.end_quiet(store, QUIET_S - 1, TELLING.ways, "") == []
    (over,) = alerts.end_quiet(store, QUIET_S, TELLING.ways, "")
    assert (over.id, over.state) == (first.id, "resolved")
    told = outbox.take(store, QUIET_S, topic="alert.")
    assert [each.body["status"] for each in told] == ["firing", "firing", "resolved"]
    assert find(store, Finding("mine", "page", "title"), QUIET_S).id != first.id


def test_acknowledged_once_and_in_the_audit(store):
    made = find(store, FINDING)
    taken = alerts.acknowledge(store, made.id, 5.0, "ann")
    assert (taken.state, taken.by, taken.acknowledged) == ("acknowledged", "ann", 5.0)
    assert alerts.acknowledge(store, made.id, 9.0, "bob") == taken
    with store.read() as connection:
        assert audit.head(connection)[0] == 1
    assert alerts.acknowledge(store, "0" * 32, 9.0, "bob") is None
    with store.write() as connection:
        assert alerts.end(connection, "key", 10.0, (), "").state == "resolved"
        assert alerts.end(connection, "key", 10.0, (), "") is None
    with pytest.raises(ConflictError, match="this alert is resolved"):
        alerts.acknowledge(store, made.id, 11.0, "bob")
    new = find(store, FINDING, 12.0)
    assert new.id != made.id
    assert [each.state for each in alerts.listed(store)] == ["open", "resolved"]
    assert [each.id for each in alerts.listed(store, "resolved")] == [made.id]
    assert alerts.standing(store) == {"page": 0, "ticket": 1}


def test_topics_are_taken_apart(store):
    find(store, FINDING)
    with store.write() as connection:
        outbox.put(connection, 0.0, "review.due", {})
    assert [each.kind for each in outbox.take(store, 0.0, topic="review.")] == ["review.due"]
    assert [each.kind for each in outbox.take(store, 0.0, topic="alert.")] == [WEBHOOK]


def test_a_page_comes_before_a_ticket(store):
    find(store, FINDING, 10.0)
    find(store, Finding("page", "page", "title"), 0.0)
    assert [each.finding.tier for each in alerts.listed(store)] == ["page", "ticket"]
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(alerts_table)) == 2


def test_what_reviewers_clear_is_a_ticket_until_they_do_no_more(store):
    add(store, *(item(n) for n in range(60)))
    state, _ = step(REFERENCE, ARL, State(), rows(2000, deep=0.05), 0.0)

    def decide(outcome):
        with store.write() as connection:
            connection.execute(sa.update(reviews).values(state="decided", outcome=outcome))
        return monitors.review_outcome(store, BUNDLE, state, 0.012, 0.0, TELLING)

    assert decide("adversarial") is None
    assert decide("accept").finding.facts["cleared"] == 60
    assert decide("accept").count == 2
    assert decide("adversarial").state == "resolved"
