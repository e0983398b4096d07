"""Items in short: for a list of the queue, and for the client who sent one."""

from dataclasses import dataclass
from typing import Final, Literal, get_args

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.reviews import OPEN
from buckler.store.tables import reviews

State = Literal["waiting", "grouped", "parked", "decided", "closed"]
STATES: Final[tuple[State, ...]] = get_args(State)


@dataclass(frozen=True)
class Listed:
    """An item in a list. leased: somebody holds it now."""

    id: str
    state: str
    level: int
    created: float
    due: float
    media_type: str
    leased: bool
    outcome: str | None
    label: str | None


@dataclass(frozen=True)
class Outcome:
    """What became of a client's row: state "waiting", "decided" or "closed" (nobody decided in
    time, it stays SUSPICIOUS); outcome and label once it is decided."""

    state: str
    outcome: str | None
    label: str | None


def listing(store: Store, now: float, state: State | None, limit: int) -> list[Listed]:
    """Up to `limit` items, the oldest first; an item whose answer is known looks like any other."""
    shown = ("id", "state", "level", "created", "due", "media_type", "outcome", "label")
    columns = [reviews.c[name] for name in shown]
    found = sa.select(*columns, reviews.c.lease_until).order_by(reviews.c.created, reviews.c.id)
    if state is not None:
        found = found.where(reviews.c.state.in_(OPEN if state == "waiting" else (state,)))
    with store.read() as connection:
        rows = connection.execute(found.limit(limit)).mappings().all()
    listed = []
    for row in rows:
        values = {name: row[name] for name in shown}
        if row["state"] == "known":
            values |= {"state": "waiting", "outcome": None, "label": None}
        leased = row["lease_until"] is not None and row["lease_until"] > now
        listed.append(Listed(**values, leased=leased))
    return listed


def outcome_of(store: Store, review_id: str, key_id: str) -> Outcome | None:
    """What became of it, for the client who sent it; None for any other.

    A row that was ACCEPTED and drawn is as none: its client is not to know which are.
    """
    mine = sa.select(reviews.c.state, reviews.c.outcome, reviews.c.label).where(
        reviews.c.id == review_id,
        reviews.c.key_id == key_id,
        reviews.c.origin == "suspicious",
    )
    with store.read() as connection:
        row = connection.execute(mine).one_or_none()
    if row is None:
        return None
    # Whether it stands in the queue or behind another would tell a flood what works.
    state = row.state if row.state in ("decided", "closed") else "waiting"
    return Outcome(state, row.outcome, row.label)
