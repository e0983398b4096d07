"""Rows that arrive: their ids, their place in the queue, and the statements that keep them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from buckler.errors import DataError
from buckler.ops.flood import place
from buckler.ops.review import Policy, due_at
from buckler.store.tables import blobs, events, reviews

_AT_ONCE = 200  # parameters a statement are limited (SQLite: 32,766)


@dataclass(frozen=True)
class Item:
    """A row for review, and the input it was judged on.

    Args:
        row: its number in the request.
        content: the input as it arrived, kept under its sha256.
        verdict: `Verdict.to_dict()`.
        risk: 0 to 1, how bad it would be to have this one wrong.
        fingerprint: of ops.flood, or "" for a row that resembles nothing.
        sampled: it was ACCEPTED, and drawn at random to be reviewed all the same.
    """

    request_id: str
    row: int
    key_id: str
    content: bytes = field(repr=False)
    media_type: str
    verdict: Mapping[str, Any]
    risk: float
    fingerprint: str
    sampled: bool = False


@dataclass(frozen=True)
class Event:
    """What happened, for the record: a request, a login, a refusal.

    accepted, suspicious: rows of a request with that status.
    """

    kind: str
    request_id: str = ""
    key_id: str = ""
    accepted: int = 0
    suspicious: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Arrival:
    """An item as a row of `reviews`, and its content."""

    values: dict[str, Any]
    content: bytes = field(repr=False)

    @property
    def id(self) -> str:
        return str(self.values["id"])


def review_id(item: Item, digest: str) -> str:
    """The same for the same row of the same request, however often it is sent.

    The client and the content belong to it: a caller who repeats somebody's request id, or its own
    with another input, gets a row of its own and hides nothing.

    Args:
        digest: sha256 of the content.
    """
    text = json.dumps([item.key_id, item.request_id, item.row, digest])
    return sha256(text.encode()).hexdigest()[:32]


def arrival(item: Item, now: float, policy: Policy) -> Arrival:
    """Raises: DataError for an item that no database could keep."""
    verdict = dict(item.verdict)
    try:
        text = json.dumps([verdict, item.request_id, item.media_type], allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"a verdict must be plain JSON to be kept: {error}") from None
    if "\\u0000" in text or not 0 <= item.risk < float("inf"):
        raise DataError("a row for review must have a finite risk >= 0, and no NUL in its texts")
    digest = sha256(item.content).hexdigest()
    values = {
        "id": review_id(item, digest),
        "request_id": item.request_id,
        "row": item.row,
        "key_id": item.key_id,
        "origin": "sample" if item.sampled else "suspicious",
        "state": "waiting",
        "leader": None,
        "risk": float(item.risk),
        "fingerprint": item.fingerprint,
        "blob": digest,
        "media_type": item.media_type,
        "prediction": str(verdict.get("prediction", "")),
        "bundle": str(verdict.get("bundle", "")),
        "verdict": verdict,
        "created": now,
        "due": due_at(now, policy),
    }
    return Arrival(values, item.content)


def arrivals_of(items: Sequence[Item], now: float, policy: Policy) -> list[Arrival]:
    return [arrival(item, now, policy) for item in items]


def insert_arrivals(
    connection: sa.Connection, arrivals: Sequence[Arrival], now: float, policy: Policy
) -> None:
    """Keep rows that are not there yet; those that are stay as they were."""
    if not arrivals:
        return
    sizes = {str(arrival.values["blob"]): len(arrival.content) for arrival in arrivals}
    # In one order, so that two replicas with the same inputs never wait for each other.
    insert_new(
        connection,
        blobs,
        [{"digest": name, "size": sizes[name], "created": now} for name in sorted(sizes)],
    )
    unique = {arrival.id: arrival.values for arrival in arrivals}
    known = _known(connection, list(unique))
    fresh = [values for name, values in unique.items() if name not in known]
    _place(connection, fresh, policy)
    insert_new(connection, reviews, sorted(fresh, key=lambda values: str(values["id"])))


def insert_events(connection: sa.Connection, happened: Sequence[tuple[float, Event]]) -> None:
    """Keep (unix seconds, event)."""
    rows = [
        {
            "at": at,
            "kind": event.kind,
            "request_id": event.request_id,
            "key_id": event.key_id,
            "accepted": event.accepted,
            "suspicious": event.suspicious,
            "facts": dict(event.facts),
        }
        for at, event in happened
    ]
    if rows:
        connection.execute(sa.insert(events), rows)


def insert_new(connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> int:
    """Insert the rows whose key is new; how many those were."""
    make = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    added = 0
    for start in range(0, len(rows), _AT_ONCE):
        some = make(table).values(rows[start : start + _AT_ONCE]).on_conflict_do_nothing()
        added += len(connection.execute(some.returning(*table.primary_key)).all())
    return added


def _known(connection: sa.Connection, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(names), _AT_ONCE):
        some = names[start : start + _AT_ONCE]
        found.update(connection.scalars(sa.select(reviews.c.id).where(reviews.c.id.in_(some))))
    return found


def _place(connection: sa.Connection, rows: Sequence[dict[str, Any]], policy: Policy) -> None:
    """Set `state` and `leader` of new rows. Those drawn at random stand in the queue whatever
    their client did: a flood may not choose what is measured."""
    flagged = [values for values in rows if values["origin"] == "suspicious"]
    clients = {str(values["key_id"]) for values in flagged}
    leaders: dict[str, list[tuple[str, str]]] = {client: [] for client in clients}
    # Locked against a decision, not against a claim: a row may not go behind one that is just
    # leaving the queue, nor be parked for a room that is just being freed.
    waiting = (
        sa.select(reviews.c.key_id, reviews.c.id, reviews.c.fingerprint)
        .where(
            reviews.c.key_id.in_(clients),
            reviews.c.state == "waiting",
            reviews.c.origin == "suspicious",
        )
        .order_by(reviews.c.id)
        .with_for_update(read=True, key_share=True)
    )
    for client, name, mark in connection.execute(waiting):
        leaders[client].append((name, mark))
    for values in flagged:
        mine = leaders[str(values["key_id"])]
        found = place(str(values["fingerprint"]), mine, len(mine), policy)
        values["state"], values["leader"] = found.state, found.leader
        if found.state == "waiting":
            mine.append((str(values["id"]), str(values["fingerprint"])))
