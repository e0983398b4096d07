"""The queue: taken by one, answered once, undone in time, and no flood drowns it."""

import threading

import pytest
import sqlalchemy as sa

from buckler.errors import ConflictError, UsageError
from buckler.ops.review import Policy, priority
from buckler.store import audit, outbox
from buckler.store.decide import Decision, decide, undo
from buckler.store.due import due
from buckler.store.engine import open_store
from buckler.store.reviews import claim, escalate, first_answer, get, locked, release, renew
from buckler.store.tables import decisions, reviews
from tests.store.made import add, item

POLICY = Policy()


def answer(found, kind="accept", label=None, **more) -> Decision:
    return Decision(
        review_id=found.id,
        lease_id=found.lease_id,
        reviewer=more.pop("reviewer", found.lease_by),
        version=more.pop("version", found.version),
        kind=kind,
        label=label,
        **more,
    )


def states(store):
    with store.read() as connection:
        rows = connection.execute(sa.select(reviews.c.id, reviews.c.state, reviews.c.leader))
        return {name: (state, leader) for name, state, leader in rows}


def count(store, table):
    with store.read() as connection:
        return connection.scalar(sa.select(sa.func.count()).select_from(table))


def test_the_first_is_the_one_with_the_highest_priority(store):
    risks = [(0.9, 900.0), (0.2, 0.0), (0.5, 500.0), (0.5, 999.7), (0.1, 100.0), (0.45, 500.0)]
    expected = []
    for number, (risk, created) in enumerate(risks):
        (name,) = add(store, item(number, risk=risk), now=created)
        expected.append((-priority(risk, created, 1000.0), created, name))
    order = []
    while found := claim(store, f"reviewer {len(order)}", 1000.0, POLICY):
        order.append(found.id)
    assert order == [name for _, _, name in sorted(expected)]


def test_an_item_is_one_reviewers_until_the_lease_ends(store):
    (name,) = add(store, item())
    first = claim(store, "ann", 0.0, POLICY)
    assert (first.id, first.lease_until) == (name, 600.0)
    assert claim(store, "bob", 599.0, POLICY) is None
    with pytest.raises(ConflictError, match="ended, or is somebody else's"):
        renew(store, name, first.lease_id, "bob", 599.0, POLICY)
    release(store, name, first.lease_id, "bob")
    assert renew(store, name, first.lease_id, "ann", 599.0, POLICY) == 1199.0
    again = claim(store, "ann", 1000.0, POLICY)
    assert (again.lease_id, again.lease_until) == (first.lease_id, 1600.0)
    assert claim(store, "bob", 1599.9, POLICY) is None
    second = claim(store, "bob", 1600.0, POLICY)
    assert second.id == name
    with pytest.raises(ConflictError, match="ended, or is somebody else's"):
        renew(store, name, first.lease_id, "ann", 1601.0, POLICY)
    with pytest.raises(ConflictError, match="ended, or is somebody else's"):
        decide(store, answer(first), 1601.0, POLICY)
    release(store, name, first.lease_id, "ann")
    assert claim(store, "cid", 1602.0, POLICY) is None
    release(store, name, second.lease_id, "bob")
    assert claim(store, "cid", 1603.0, POLICY).id == name


def test_a_decision_is_kept_once_and_shown(store):
    (name,) = add(store, item())
    found = claim(store, "ann", 0.0, POLICY)
    made = decide(store, answer(found, "label", "dog", note="a tail"), 10.0, POLICY)
    assert (made.state, made.outcome, made.label, made.undo_until) == (
        "decided",
        "label",
        "dog",
        600.0,
    )
    assert decide(store, answer(found, "label", "dog", note="a tail"), 5000.0, POLICY) == made
    with pytest.raises(ConflictError, match="stands for another decision"):
        decide(store, answer(found, "accept"), 11.0, POLICY)
    assert count(store, decisions) == 1
    shown = get(store, name, POLICY)
    assert shown.history[0]["note"] == "a tail"
    assert (shown.outcome, shown.label, shown.version) == ("label", "dog", 2)
    assert claim(store, "bob", 5000.0, POLICY) is None
    assert get(store, "nothing", POLICY) is None
    with pytest.raises(ConflictError, match="ended, or is"):
        decide(store, answer(found, idempotency_key="new"), 12.0, POLICY)
    with pytest.raises(ConflictError, match="no item under review has the id 'x'"):
        decide(store, Decision("x", "", "ann", 1, "accept"), 12.0, POLICY)
    messages = outbox.take(store, 12.0)
    assert [(message.kind, message.body["label"]) for message in messages] == [
        ("review.decided", "dog")
    ]


def test_a_version_that_passed_is_a_conflict(store):
    add(store, item())
    found = claim(store, "ann", 0.0, POLICY)
    with pytest.raises(ConflictError, match="at version 1, the decision was about version 7"):
        decide(store, answer(found, version=7), 1.0, POLICY)
    with pytest.raises(UsageError, match="must be one of"):
        decide(store, answer(found, "perhaps"), 1.0, POLICY)
    assert count(store, decisions) == 0


def test_undo_within_the_lease(store):
    (name,) = add(store, item())
    found = claim(store, "ann", 0.0, POLICY)
    decide(store, answer(found, "corrupted"), 10.0, POLICY)
    with pytest.raises(ConflictError, match="within its lease only"):
        undo(store, name, "bob", 20.0, POLICY)
    back = undo(store, name, "ann", 20.0, POLICY)
    assert (back.state, back.outcome, back.lease_by, back.lease_until) == (
        "waiting",
        None,
        "ann",
        600.0,
    )
    assert claim(store, "bob", 21.0, POLICY) is None
    with pytest.raises(ConflictError, match="within its lease only"):
        undo(store, name, "ann", 21.0, POLICY)
    decide(store, answer(back, "accept"), 30.0, POLICY)
    with pytest.raises(ConflictError, match="within its lease only"):
        undo(store, name, "ann", 600.0, POLICY)
    history = get(store, name, POLICY).history
    assert [(each["kind"], each["undone"]) for each in history] == [
        ("corrupted", 20.0),
        ("accept", None),
    ]


def test_two_of_three_and_each_reviewer_once(store):
    policy = Policy(agree=2, of=3)
    (name,) = add(store, item())
    for now, (who, kind, label) in enumerate(
        [("ann", "label", "dog"), ("bob", "accept", None), ("cid", "label", "dog")]
    ):
        found = claim(store, who, float(now), policy)
        made = decide(store, answer(found, kind, label), float(now), policy)
        assert claim(store, who, float(now), policy) is None
    assert (made.state, made.outcome, made.label) == ("decided", "label", "dog")
    with pytest.raises(ConflictError, match="was decided by others since"):
        undo(store, name, "ann", 3.0, policy)
    assert undo(store, name, "cid", 3.0, policy).state == "waiting"


def test_unsure_goes_to_a_senior_who_decides(store):
    (name,) = add(store, item())
    found = claim(store, "ann", 0.0, POLICY)
    made = decide(store, answer(found, "unsure"), 1.0, POLICY)
    assert (made.state, made.level) == ("waiting", 1)
    assert claim(store, "bob", 2.0, POLICY) is None
    taken = claim(store, "eve", 2.0, POLICY, senior=True)
    with pytest.raises(ConflictError, match="with another reviewer now"):
        undo(store, name, "ann", 3.0, POLICY)
    release(store, name, taken.lease_id, "eve")
    assert undo(store, name, "ann", 3.0, POLICY).level == 0
    found = claim(store, "ann", 4.0, POLICY)
    decide(store, answer(found, "unsure"), 4.0, POLICY)
    taken = claim(store, "eve", 5.0, POLICY, senior=True)
    made = decide(store, answer(taken, "adversarial", "cat", senior=True), 6.0, POLICY)
    assert (made.state, made.outcome, made.label) == ("decided", "adversarial", "cat")
    assert {m.kind for m in outbox.take(store, 9.0)} == {"review.escalated", "review.decided"}


def test_escalated_by_hand(store):
    (name,) = add(store, item())
    held = claim(store, "ann", 0.0, POLICY)
    escalate(store, name, "boss", 1.0)
    with pytest.raises(ConflictError, match="can be escalated, once"):
        escalate(store, name, "boss", 1.0)
    with pytest.raises(ConflictError):
        decide(store, answer(held), 2.0, POLICY)
    assert claim(store, "eve", 2.0, POLICY, senior=True).id == name


def test_blind_the_first_answer_is_kept_before_anything_is_shown(store):
    policy = Policy(blind=True)
    (name,) = add(store, item())
    found = claim(store, "ann", 0.0, policy)
    assert (found.prediction, found.verdict) == (None, None)
    assert get(store, name, policy, "ann").prediction is None
    with pytest.raises(UsageError, match="give your own label before you decide"):
        decide(store, answer(found), 1.0, policy)
    with pytest.raises(ConflictError, match="ended"):
        first_answer(store, name, "another lease", "ann", "dog", 1.0)
    shown = first_answer(store, name, found.lease_id, "ann", "dog", 1.0)
    assert shown.prediction == "cat"
    first_answer(store, name, found.lease_id, "ann", "cat", 2.0)
    with store.read() as connection:
        kept = connection.exec_driver_sql("SELECT label, at FROM first_answers").all()
    assert [tuple(row) for row in kept] == [("dog", 1.0)]
    assert get(store, name, policy, "bob").prediction is None
    assert decide(store, answer(shown), 3.0, policy).outcome == "accept"


def test_a_flood_waits_behind_its_first_and_its_client(store):
    policy = Policy(client_cap=3, near_bits=4)
    alike = [item(n, key_id="flood", fingerprint="00" * 7 + "0" + "1248"[n % 4]) for n in range(8)]
    others = [item(100 + n, key_id="flood", fingerprint=f"{n}f" * 8) for n in range(5)]
    names = add(store, *alike, policy=policy) + add(store, *others, policy=policy)
    (quiet,) = add(store, item(200, key_id="quiet"), policy=policy)
    (drawn,) = add(store, item(201, key_id="flood", sampled=True), policy=policy)
    found = states(store)
    assert [found[name][0] for name in names] == (
        ["waiting"] + ["grouped"] * 7 + ["waiting"] * 2 + ["parked"] * 3
    )
    assert {found[name][1] for name in names[1:8]} == {names[0]}
    assert found[quiet][0] == found[drawn][0] == "waiting"
    # One answer for all behind it, and the parked ones fill the room.
    first = get(store, names[0], policy)
    assert first.similar == 7
    with store.write() as connection:
        of = sa.update(reviews).where(reviews.c.id == names[0])
        connection.execute(of.values(risk=9.0))
    held = claim(store, "ann", 5.0, policy)
    assert held.id == names[0]
    decide(store, answer(held, "adversarial", whole_group=True), 6.0, policy)
    found = states(store)
    assert {found[name][0] for name in names[:8]} == {"decided"}
    assert sorted(found[name][0] for name in names[8:]) == ["parked"] * 2 + ["waiting"] * 3
    undo(store, names[0], "ann", 7.0, policy)
    found = states(store)
    assert [found[name][0] for name in names[:8]] == ["waiting"] + ["grouped"] * 7
    # Alone, the next of the group moves up with the others behind it.
    held = claim(store, "ann", 8.0, policy)
    decide(store, answer(held, "accept"), 8.0, policy)
    found = states(store)
    (leader,) = {found[name][1] for name in names[1:8]} - {None}
    assert found[leader][0] == "waiting"
    assert sum(found[name][0] == "grouped" for name in names[1:8]) == 6


def test_an_accepted_group_keeps_each_rows_own_prediction(store):
    dog = {**item().verdict, "prediction": "dog"}
    rows = [item(0, fingerprint="a"), item(1, fingerprint="a", verdict=dog)]
    names = add(store, *rows)
    decide(store, answer(claim(store, "ann", 0.0, POLICY), whole_group=True), 1.0, POLICY)
    assert [get(store, name, POLICY).label for name in names] == ["cat", "dog"]


@pytest.mark.parametrize(
    ("then", "state", "level"),
    [("alert", "waiting", 0), ("escalate", "waiting", 1), ("close", "closed", 0)],
)
def test_when_the_time_has_passed(store, then, state, level):
    policy = Policy(due_s=100.0, on_due=then, client_cap=1)
    late, behind = add(store, item(0), item(1), policy=policy)
    held = claim(store, "ann", 99.0, policy)
    assert held.id in (late, behind)
    assert behind not in due(store, 99.9, policy)
    found = due(store, 100.0, policy)
    assert len(found) == 1  # the other is with ann
    assert due(store, 100.0, policy) == []
    release(store, held.id, held.lease_id, "ann")
    assert due(store, 101.0, policy) == [held.id]
    shown = get(store, held.id, policy)
    assert (shown.state, shown.level) == (state, level)
    assert {message.kind for message in outbox.take(store, 101.0)} == {"review.due"}
    with store.read() as connection:
        assert audit.verify(connection) is None


@pytest.mark.parametrize("workers", [6])
def test_who_asks_at_once_never_gets_the_same(store, workers):
    names = set(add(store, *(item(n) for n in range(90))))
    taken: list[str] = []
    failures: list[Exception] = []

    def work(number):
        try:
            own = open_store(
                store.durable.url.render_as_string(False), store.blobs.url, upgrade=False
            )
            for turn in range(15):
                found = claim(own, f"{number}-{turn}", 1.0, POLICY)
                taken.append(found.id)
            own.close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(taken) == len(set(taken)) == 90
    assert set(taken) == names


def test_one_of_two_that_decide_at_once_wins(store):
    (name,) = add(store, item())
    found = claim(store, "ann", 0.0, POLICY)
    outcomes: list[object] = []

    def work(label):
        try:
            outcomes.append(
                decide(store, answer(found, "label", label, idempotency_key=label), 1.0, POLICY)
            )
        except ConflictError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, args=(label,)) for label in ("dog", "cow", "hen")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(each, ConflictError) for each in outcomes) == 2
    assert count(store, decisions) == 1
    assert len(get(store, name, POLICY).history) == 1


def test_no_row_goes_behind_one_that_is_leaving(store):
    """A decision that is not committed yet: the new row waits, and then leads itself."""
    policy = Policy(client_cap=1)
    (first,) = add(store, item(0, fingerprint="a"), policy=policy)
    names: list[str] = []

    def arrive():
        names.extend(add(store, item(1, fingerprint="a"), item(2, fingerprint="b"), policy=policy))

    thread = threading.Thread(target=arrive)
    with store.write() as connection:
        row = locked(connection, first)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        leaving = sa.update(reviews).where(reviews.c.id == row["id"])
        connection.execute(leaving.values(state="decided"))
    thread.join()
    found = states(store)
    assert [found[name] for name in names] == [("waiting", None), ("parked", None)]
