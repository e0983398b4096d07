"""The chain names the first row that is not as it was written; messages go out once."""

import threading

import pytest
import sqlalchemy as sa

from buckler.store import audit, leases, outbox
from buckler.store.tables import audit as table


def write(store, count):
    for number in range(count):
        with store.write() as connection:
            audit.append(connection, float(number), "ann", "act", str(number), {"é": number})


def tampered(store, statement):
    """Whoever owns the database can take the triggers away; the chain tells all the same."""
    with store.write() as connection:
        if store.is_sqlite:
            for verb in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(f"DROP TRIGGER audit_no_{verb}")
        else:
            connection.exec_driver_sql("DROP TRIGGER audit_append ON audit")
        connection.execute(statement)


def broken(store, known=None):
    with store.read() as connection:
        return audit.verify(connection, known)


def row(n):
    return table.c.n == n


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda: sa.update(table).where(row(3)).values(actor="bob"), "at row 3: its words"),
        (lambda: sa.update(table).where(row(3)).values(at=9.5), "at row 3: its words"),
        (lambda: sa.delete(table).where(row(3)), "at row 3: it is missing, the next is 4"),
        (lambda: sa.delete(table).where(row(1)), "at row 1: it is missing, the next is 2"),
        (lambda: sa.update(table).where(row(4)).values(previous="0" * 64), "row 4: it does not"),
        (
            lambda: sa.insert(table).values(
                n=0, at=0, actor="", action="", subject="", facts="{}", previous="", digest=""
            ),
            "at row 1: it is missing, the next is 0",
        ),
    ],
)
def test_the_first_broken_row_is_named(store, change, said):
    write(store, 6)
    assert broken(store) is None
    tampered(store, change())
    assert said in str(broken(store))


def test_a_shorter_chain_is_told_by_who_kept_its_head(lite):
    write(lite, 5)
    with lite.read() as connection:
        head = audit.head(connection)
    assert head[0] == 5
    write(lite, 2)
    assert broken(lite, head) is None
    tampered(lite, sa.delete(table).where(table.c.n > 4))
    assert broken(lite) is None
    assert "row 5: it is missing, 5 rows were known" in str(broken(lite, head))
    write(lite, 3)
    assert "row 5: it is not the row that was known" in str(broken(lite, head))


def test_the_database_refuses_changes(store):
    write(store, 2)
    for statement in (sa.update(table).values(actor="bob"), sa.delete(table)):
        with pytest.raises(sa.exc.DBAPIError, match="only appended to"), store.write() as found:
            found.execute(statement)
    assert broken(store) is None


def test_long_chains_are_read_in_pages(lite, monkeypatch):
    monkeypatch.setattr(audit, "_PAGE", 3)
    write(lite, 8)
    assert broken(lite) is None
    tampered(lite, sa.delete(table).where(row(7)))
    assert broken(lite).n == 7


def test_many_writers_make_one_chain(store):
    threads = [threading.Thread(target=write, args=(store, 10)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert broken(store) is None
    with store.read() as connection:
        assert audit.head(connection)[0] == 40


def test_what_is_undone_leaves_no_row(store):
    def fail(connection):
        audit.append(connection, 0.0, "ann", "act", "x")
        raise RuntimeError

    with pytest.raises(RuntimeError), store.write() as connection:
        fail(connection)
    assert broken(store) is None
    with store.read() as connection:
        assert audit.head(connection) == (0, audit.START)


def test_messages_are_tried_until_they_arrive(store):
    with store.write() as connection:
        for number in range(3):
            outbox.put(connection, 10.0, "review.decided", {"id": number})
    first, second = outbox.take(store, 10.0, count=2)
    assert [m.body["id"] for m in (first, second)] == [0, 1]
    (third,) = outbox.take(store, 10.0)
    assert outbox.take(store, 11.0) == []
    outbox.sent(store, first, 12.0)
    outbox.failed(store, second, 12.0)
    assert [m.body["id"] for m in outbox.take(store, 22.0)] == [1]
    assert [m.body["id"] for m in outbox.take(store, 70.0)] == [2]  # its sender died
    assert third.tries == 1
    message, now = second, 100.0
    while found := outbox.take(store, now):
        message = next((each for each in found if each.id == second.id), message)
        outbox.failed(store, message, now)
        for other in found:
            if other.id != second.id:
                outbox.sent(store, other, now)
        now += 30_000.0
    assert message.tries == outbox.TRIES
    assert [outbox.wait_s(tries) for tries in (1, 2, 12)] == [10.0, 20.0, 20480.0]
    assert outbox.wait_s(30) == 21_600.0


def test_one_holder_at_a_time_and_a_late_one_is_known(store):
    assert leases.take(store, "control", "a", 0.0, 10.0) == 1
    assert leases.take(store, "control", "b", 9.0, 10.0) is None
    assert leases.take(store, "control", "a", 9.0, 10.0) == 1
    assert leases.take(store, "control", "b", 19.0, 10.0) == 2
    leases.give(store, "control", "a", 20.0)
    assert leases.take(store, "control", "a", 20.0, 10.0) is None
    leases.give(store, "control", "b", 20.0)
    assert leases.take(store, "control", "a", 20.0, 10.0) == 3
    assert leases.take(store, "other", "b", 20.0, 10.0) == 1
