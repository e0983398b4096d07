"""What is kept for how long, what must be forgotten, and whether all is as it should be.

Erasing takes rows and inputs away for good; the audit keeps that it was done, by whom and of what
id, never what it was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from buckler.errors import BucklerError, UsageError
from buckler.ops.review import Policy
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.moving import move_up
from buckler.store.tables import blobs, decisions, events, outbox, reviews

_DAY: Final = 86_400.0
_AT_ONCE: Final = 500
_SWEEP_AFTER_S: Final = 3600.0  # no commit takes so long
_CLOSED: Final = ("decided", "closed")


@dataclass(frozen=True)
class Retention:
    """Seconds that things are kept; None: for ever. What is not decided is kept in any case.

    Args:
        events_s: events, and messages that were sent or given up.
        inputs_s: inputs and verdicts of decided rows, counted from the decision; the rest of the
            row stays.
        reviews_s: decided rows, counted from the decision.
    """

    events_s: float | None = 30 * _DAY
    inputs_s: float | None = 90 * _DAY
    reviews_s: float | None = 365 * _DAY


def retain(store: Store, now: float, retention: Retention) -> dict[str, int]:
    """Remove what is older than that: how many "events", "inputs" and "reviews"."""
    removed = {"events": 0, "inputs": 0, "reviews": 0}
    with store.write() as connection:
        if retention.events_s is not None:
            before = now - retention.events_s
            old = connection.execute(sa.delete(events).where(events.c.at < before))
            removed["events"] = old.rowcount
            over = sa.func.coalesce(outbox.c.sent, outbox.c.given_up)
            connection.execute(sa.delete(outbox).where(over < before))
    for kind, seconds in (("inputs", retention.inputs_s), ("reviews", retention.reviews_s)):
        while seconds is not None and (names := _decided_before(store, now - seconds, kind)):
            with store.write() as connection:
                (_redact if kind == "inputs" else _delete)(connection, store, names)
            removed[kind] += len(names)
    if any(removed.values()):
        with store.write() as connection:
            audit.append(connection, now, "policy", "retain", "store", removed)
    return removed


def redact(store: Store, review_id: str, now: float, actor: str) -> None:
    """Forget the input, the verdict and the notes of a row; what was decided stays.

    Raises: UsageError if there is no such row.
    """
    with store.write() as connection:
        _one(connection, review_id)
        _redact(connection, store, [review_id])
        audit.append(connection, now, actor, "redact", review_id)


def erase_review(store: Store, review_id: str, now: float, actor: str, policy: Policy) -> None:
    """Forget a row, its input and its decisions. Raises: UsageError if there is no such row."""
    with store.write() as connection:
        row = _one(connection, review_id)
        _delete(connection, store, [review_id])
        move_up(connection, row, policy)
        audit.append(connection, now, actor, "erase", review_id, {"reviews": 1})


def erase_client(store: Store, key_id: str, now: float, actor: str) -> int:
    """Forget every row, input, decision and event of a client; how many rows those were."""
    mine = sa.select(reviews.c.id).where(reviews.c.key_id == key_id).order_by(reviews.c.id)
    with store.write() as connection:
        names = list(connection.scalars(mine.with_for_update()))
        for start in range(0, len(names), _AT_ONCE):
            _delete(connection, store, names[start : start + _AT_ONCE])
        gone = connection.execute(sa.delete(events).where(events.c.key_id == key_id)).rowcount
        facts = {"reviews": len(names), "events": gone}
        audit.append(connection, now, actor, "erase", f"client {key_id}", facts)
    return len(names)


def sweep(store: Store, now: float) -> int:
    """Remove inputs that no row speaks of, an hour old or older; how many those were."""
    with store.read() as connection:
        known = set(connection.scalars(sa.select(blobs.c.digest)))
    return store.blobs.sweep(known, now - _SWEEP_AFTER_S)


def check(store: Store, known_head: tuple[int, str] | None = None) -> tuple[str, ...]:
    """What is wrong with the store, a sentence each; empty if nothing is.

    Every input is read, and the audit from its first row: it takes as long as that takes.

    Args:
        known_head: an earlier `audit.head`, kept elsewhere.
    """
    wrong: list[str] = []
    with store.read() as connection:
        wrong += _database(connection)
        broken = audit.verify(connection, known_head)
        wrong += [str(broken)] if broken else []
        digests = list(connection.scalars(sa.select(blobs.c.digest).order_by(blobs.c.digest)))
    for digest in digests:
        try:
            store.blobs.get(digest)
        except BucklerError as error:
            wrong.append(str(error))
    return tuple(wrong)


def _database(connection: sa.Connection) -> list[str]:
    if connection.dialect.name == "sqlite":
        found = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
        wrong = [f"the database is damaged: {line}" for line in found if line != "ok"]
        loose = connection.exec_driver_sql("PRAGMA foreign_key_check").all()
        return wrong + [f"a row of {row[0]} points to nothing" for row in loose]
    settings = {
        name: connection.exec_driver_sql(f"SHOW {name}").scalar_one()
        for name in ("fsync", "full_page_writes")
    }
    return [
        f"the PostgreSQL server runs with {name} = off: a crash of its machine loses commits"
        for name, value in settings.items()
        if value != "on"
    ]


def _one(connection: sa.Connection, review_id: str) -> sa.RowMapping:
    one = sa.select(reviews).where(reviews.c.id == review_id).with_for_update()
    row = connection.execute(one).mappings().one_or_none()
    if row is None:
        raise UsageError(f"no item under review has the id {review_id!r}")
    return row


def _decided_before(store: Store, before: float, kind: str) -> list[str]:
    old = sa.select(reviews.c.id).where(reviews.c.state.in_(_CLOSED), reviews.c.decided < before)
    if kind == "inputs":
        old = old.where(reviews.c.blob.is_not(None))
    with store.read() as connection:
        return list(connection.scalars(old.order_by(reviews.c.id).limit(_AT_ONCE)))


def _redact(connection: sa.Connection, store: Store, names: Sequence[str]) -> None:
    digests = _digests(connection, names)
    empty: dict[str, Any] = {"blob": None, "verdict": {}, "fingerprint": ""}
    connection.execute(sa.update(reviews).where(reviews.c.id.in_(names)).values(empty))
    notes = sa.update(decisions).where(decisions.c.review_id.in_(names))
    connection.execute(notes.values(note=""))
    _drop_unused(connection, store, digests)


def _delete(connection: sa.Connection, store: Store, names: Sequence[str]) -> None:
    digests = _digests(connection, names)
    connection.execute(sa.delete(reviews).where(reviews.c.id.in_(names)))
    _drop_unused(connection, store, digests)


def _digests(connection: sa.Connection, names: Sequence[str]) -> list[str]:
    theirs = sa.select(reviews.c.blob).where(reviews.c.id.in_(names), reviews.c.blob.is_not(None))
    return sorted(str(digest) for digest in set(connection.scalars(theirs)))


def _drop_unused(connection: sa.Connection, store: Store, digests: Sequence[str]) -> None:
    """Inputs that no row needs any more. Locked first: then whoever is about to need one has
    committed, or finds it gone and keeps it again."""
    held = sa.select(blobs.c.digest).where(blobs.c.digest.in_(digests)).order_by(blobs.c.digest)
    connection.execute(held.with_for_update())
    used = sa.exists().where(reviews.c.blob == blobs.c.digest)
    unused = sa.delete(blobs).where(blobs.c.digest.in_(digests), ~used)
    for digest in connection.scalars(unused.returning(blobs.c.digest)).all():
        store.blobs.drop(digest)
