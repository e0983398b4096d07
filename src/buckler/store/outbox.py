"""Messages to the outside, written in the transaction that they tell of, sent until they arrive.

Whoever sends them takes a few, tries, and says how it went; nothing is sent twice on purpose, but a
sender that dies after sending leaves a message to be sent again: receivers go by its id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.tables import outbox

TRIES: Final = 12  # with the waits below, over a day and a half
_TAKEN_S: Final = 60.0


@dataclass(frozen=True)
class Message:
    """To be sent; `tries` counts this one."""

    id: int
    kind: str
    at: float
    body: Mapping[str, Any]
    tries: int


def wait_s(tries: int) -> float:
    """Seconds to the next try after so many failed: 10 s, doubling to at most 6 hours."""
    return min(10.0 * 2.0 ** (tries - 1), 21_600.0)


def put(connection: sa.Connection, now: float, kind: str, body: Mapping[str, Any]) -> None:
    """Queue a message in the caller's transaction."""
    values = {"at": now, "kind": kind, "body": dict(body), "next_try": now, "tries": 0}
    connection.execute(sa.insert(outbox).values(values))


def take(store: Store, now: float, count: int = 20, topic: str = "") -> list[Message]:
    """Messages to try now whose kind begins with `topic`; nobody else gets them for a minute."""
    due = (
        sa.select(outbox.c.id)
        .where(outbox.c.sent.is_(None), outbox.c.given_up.is_(None), outbox.c.next_try <= now)
        .where(outbox.c.kind.startswith(topic, autoescape=True))
        .order_by(outbox.c.id)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    taken = (
        sa.update(outbox)
        .where(outbox.c.id.in_(due.scalar_subquery()))
        .values(next_try=now + _TAKEN_S, tries=outbox.c.tries + 1)
        .returning(outbox)
    )
    with store.write() as connection:
        rows = connection.execute(taken).mappings().all()
    names = ("id", "kind", "at", "body", "tries")
    found = [Message(**{name: row[name] for name in names}) for row in rows]
    return sorted(found, key=lambda message: message.id)


def sent(store: Store, message: Message, now: float) -> None:
    _set(store, message, sent=now)


def failed(store: Store, message: Message, now: float) -> None:
    """Try again later; after the last try it stays in the table, given up."""
    if message.tries >= TRIES:
        _set(store, message, given_up=now)
    else:
        _set(store, message, next_try=now + wait_s(message.tries))


def _set(store: Store, message: Message, **values: float) -> None:
    with store.write() as connection:
        connection.execute(sa.update(outbox).where(outbox.c.id == message.id).values(values))
