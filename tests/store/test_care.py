"""What must go goes, what must stay stays, and a damaged store says what is damaged."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from buckler.errors import DataError, UsageError
from buckler.ops.review import Policy
from buckler.store import audit, care, known, outbox
from buckler.store.backup import backup, restore
from buckler.store.care import Retention
from buckler.store.decide import decide
from buckler.store.intake import Event, insert_events
from buckler.store.known import Known
from buckler.store.report import stats
from buckler.store.reviews import claim, get
from buckler.store.schema import metadata
from buckler.store.shared import read_policy, set_policy
from buckler.store.tables import reviews
from tests.store.made import add, item
from tests.store.test_reviews import answer, states

POLICY = Policy()


def happened(store, *events, at=0.0):
    with store.write() as connection:
        insert_events(connection, [(at, event) for event in events])


def count(store, name):
    with store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(metadata.tables[name]))


def decided(store, number, now, kind="accept", label=None, **more):
    (name,) = add(store, item(number, **more), now=now)
    found = claim(store, "ann", now, POLICY)
    assert found.id == name
    decide(store, answer(found, kind, label), now, POLICY)
    return name


def test_retention_keeps_what_is_not_decided(store):
    old = decided(store, 1, 0.0)
    young = decided(store, 2, 900.0)
    (open_one,) = add(store, item(3), now=0.0)
    happened(store, Event("request"), at=0.0)
    happened(store, Event("request"), at=950.0)
    (message, _) = outbox.take(store, 900.0)
    outbox.sent(store, message, 10.0)
    nothing = care.retain(store, 1000.0, Retention(None, None, None))
    assert nothing == {"events": 0, "inputs": 0, "reviews": 0}
    found = care.retain(store, 1000.0, Retention(500.0, 500.0, None))
    assert found == {"events": 1, "inputs": 1, "reviews": 0}
    assert get(store, old, POLICY).blob is None
    assert get(store, old, POLICY).label == "cat"
    assert get(store, young, POLICY).blob is not None
    assert count(store, "outbox") == 1
    assert len(store.blobs.digests()) == count(store, "blobs") == 2
    assert care.retain(store, 1000.0, Retention(500.0, 500.0, 500.0))["reviews"] == 1
    assert set(states(store)) == {young, open_one}
    assert care.check(store) == ()


def test_an_input_that_others_need_stays(store):
    first = decided(store, 1, 0.0, content=b"shared")
    (second,) = add(store, item(2, content=b"shared"))
    care.redact(store, first, 5.0, "root")
    shown = get(store, first, POLICY)
    assert (shown.blob, shown.verdict, shown.outcome) == (None, {}, "accept")
    assert [each["note"] for each in shown.history] == [""]
    assert store.blobs.get(get(store, second, POLICY).blob) == b"shared"
    care.erase_review(store, second, 6.0, "root", POLICY)
    assert store.blobs.digests() == set()
    assert get(store, second, POLICY) is None
    with pytest.raises(UsageError, match="no item under review has the id"):
        care.redact(store, second, 7.0, "root")
    with pytest.raises(UsageError, match="no item under review has the id"):
        care.erase_review(store, second, 7.0, "root", POLICY)


def test_a_client_is_forgotten_and_a_tombstone_stays(store):
    add(store, item(1, key_id="gone", content=b"mine"), item(2, key_id="gone"))
    (other,) = add(store, item(3, key_id="stays"))
    happened(store, Event("request", key_id="gone"), Event("request", key_id="stays"))
    held = claim(store, "ann", 1.0, POLICY)
    decide(store, answer(held), 1.0, POLICY)
    assert care.erase_client(store, "gone", 9.0, "root") == 2
    assert care.erase_client(store, "gone", 9.0, "root") == 0
    assert set(states(store)) == {other}
    assert count(store, "events") == 1
    assert store.blobs.digests() == {get(store, other, POLICY).blob}
    with store.read() as connection:
        last = connection.exec_driver_sql(
            "SELECT subject, facts FROM audit WHERE action = 'erase' ORDER BY n"
        ).first()
    assert tuple(last) == ("client gone", '{"events": 1, "reviews": 2}')
    assert care.check(store) == ()


def test_an_erased_leader_leaves_its_group_in_the_queue(lite):
    policy = Policy(client_cap=1)
    names = add(lite, *(item(n, fingerprint=mark) for n, mark in enumerate("aab")), policy=policy)
    assert [state for state, _ in states(lite).values()].count("waiting") == 1
    care.erase_review(lite, names[0], 1.0, "root", policy)
    assert states(lite) == {names[1]: ("waiting", None), names[2]: ("parked", None)}
    care.erase_review(lite, names[1], 1.0, "root", policy)
    assert states(lite) == {names[2]: ("waiting", None)}


def test_what_a_dead_process_left_is_swept(lite):
    add(lite, item(1))
    orphan = lite.blobs.put(b"nobody speaks of me")
    assert care.sweep(lite, Path(lite.blobs.path(orphan)).stat().st_mtime + 3599) == 0
    assert care.sweep(lite, Path(lite.blobs.path(orphan)).stat().st_mtime + 3601) == 1
    assert not lite.blobs.has(orphan)
    assert len(lite.blobs.digests()) == 1


def test_a_check_names_what_is_wrong(store):
    names = add(store, item(1), item(2), item(3))
    assert care.check(store) == ()
    missing, changed, _ = (get(store, name, POLICY).blob for name in names)
    store.blobs.drop(missing)
    Path(store.blobs.path(changed)).write_bytes(b"other")
    wrong = care.check(store, known_head=(5, "a" * 64))
    assert len(wrong) == 3
    assert any(f"the input {missing} is missing" in each for each in wrong)
    assert any(f"the input {changed}" in each and "changed" in each for each in wrong)
    assert any("5 rows were known" in each for each in wrong)


def test_a_copy_of_a_running_store_comes_back(lite, tmp_path):
    name = decided(lite, 1, 0.0)
    add(lite, item(2))
    made = backup(lite, tmp_path / "copy", 5.0)
    assert (made.when, made.inputs) == (5.0, 2)
    add(lite, item(3))
    back = restore(tmp_path / "copy", f"sqlite:///{tmp_path}/other/store.db")
    assert set(states(back)) == set(states(lite)) - set(add(lite, item(3)))
    assert get(back, name, POLICY) == get(lite, name, POLICY)
    assert care.check(back, made.head) == ()
    back.close()
    with pytest.raises(UsageError, match="goes into a new folder"):
        backup(lite, tmp_path / "copy", 6.0)
    with pytest.raises(UsageError, match=r"there is a store at .* already"):
        restore(tmp_path / "copy", f"sqlite:///{tmp_path}/other/store.db")


@pytest.mark.parametrize("what", ["store.db", "input", "lost"])
def test_a_damaged_copy_is_refused_and_leaves_nothing(lite, tmp_path, what):
    add(lite, item(1))
    backup(lite, tmp_path / "copy", 5.0)
    path = next((tmp_path / "copy" / "blobs").glob("*/*"))
    if what == "store.db":
        path = tmp_path / "copy" / "store.db"
    if what == "lost":
        path.unlink()
    else:
        path.write_bytes(b"changed")
    with pytest.raises(DataError, match="is damaged: "):
        restore(tmp_path / "copy", f"sqlite:///{tmp_path}/other/store.db")
    assert list((tmp_path / "other").glob("store.db*")) == []


def test_postgres_says_what_to_use(postgres, tmp_path):
    from buckler.store.engine import open_store

    store = open_store(postgres.new_url(), str(tmp_path / "blobs"))
    with pytest.raises(UsageError, match="pg_dump or pg_basebackup"):
        backup(store, tmp_path / "copy", 0.0)
    store.close()
    with pytest.raises(UsageError, match="use pg_restore"):
        restore(tmp_path / "copy", "postgresql://x@127.0.0.1/x")


def test_known_items_measure_reviewers_and_look_like_any_other(store):
    policy = Policy(known_share=0.5)
    verdict = item().verdict
    known.seed(
        store,
        [
            Known(b"a", "image/png", verdict, "label", "dog"),
            Known(b"b", "image/png", verdict, "accept"),
        ],
        0.0,
        "root",
    )
    names = add(store, *(item(n) for n in range(20)))
    seen = []
    for turn in range(12):
        found = claim(store, "ann", float(turn), policy, secret=b"s")
        assert found.state == "waiting"
        assert (found.outcome, found.label) == (None, None)
        seen.append(found.id)
        made = decide(store, answer(found, "label", "dog"), float(turn), policy)
        assert (made.state, made.outcome, made.label) == ("decided", "label", "dog")
        after = get(store, found.id, policy, "ann")
        assert (after.state, after.outcome, after.label) == ("decided", "label", "dog")
    assert len(set(seen)) == 12
    assert len(set(seen) - set(names)) == 2
    found = stats(store, 20.0)
    assert (found.reviewers["ann"].k, found.reviewers["ann"].n) == (1, 2)
    assert sum(found.states.values()) == 20
    assert found.outcomes == {"label": 10}
    with pytest.raises(UsageError, match="must be known"):
        known.seed(store, [Known(b"c", "image/png", verdict, "unsure")], 0.0, "root")


def test_stats_count_and_estimate(store):
    happened(store, Event("request", accepted=990, suspicious=10))
    rows = [item(n, key_id="a" if n < 7 else "b") for n in range(10)]
    drawn = [item(100 + n, sampled=True, key_id="c") for n in range(4)]
    add(store, *rows, *drawn)
    for turn in range(14):
        found = claim(store, "ann", 1.0, POLICY)
        wrong = found.verdict["status"] == "SUSPICIOUS" and turn % 2
        decide(store, answer(found, *(["label", "dog"] if wrong else ["accept"])), 1.0, POLICY)
    add(store, item(200, key_id="late"), now=2.0)
    claim(store, "bob", 50.0, POLICY)
    found = stats(store, 50.0)
    assert found.states == {"decided": 14, "waiting": 1}
    assert (found.escalated, found.leased, found.overdue, found.oldest_s) == (0, 1, 0, 48.0)
    assert found.clients == {"late": 1}
    assert found.answers == {"ann": 14}
    flagged = found.outcomes["label"] / 10
    assert (found.machine.missed.k, found.machine.missed.n) == (0, 4)
    assert found.machine.wrong == pytest.approx((11 * flagged) / 1001)
    assert stats(store, 2.0 + POLICY.due_s).overdue == 1


def test_all_go_by_one_policy(store):
    assert read_policy(store) == Policy()
    set_policy(store, Policy(agree=2, of=3, blind=True), 1.0, "root")
    set_policy(store, Policy(agree=2, of=2), 2.0, "root")
    assert read_policy(store) == Policy(agree=2, of=2)
    with store.write() as connection:
        connection.exec_driver_sql("""UPDATE settings SET value = '{"agree": 9}'""")
    with pytest.raises(DataError, match="cannot be used: agree must be"):
        read_policy(store)
    with store.read() as connection:
        assert audit.head(connection)[0] == 2
        assert connection.scalar(sa.select(sa.func.count()).select_from(reviews)) == 0
