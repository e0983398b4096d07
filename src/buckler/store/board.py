"""What a page of the queue shows beside its counts: why rows wait, who holds one, what is alike."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.reviews import OPEN
from buckler.store.tables import reviews

_COUNTED: Final = 2000
_LISTED: Final = 20


@dataclass(frozen=True)
class Group:
    """An item that leads rows of the same client that look like it. rows: how many those are."""

    leader: str
    client: str
    rows: int


@dataclass(frozen=True)
class Holding:
    """An item somebody is looking at, until then (unix seconds)."""

    id: str
    reviewer: str
    until: float


@dataclass(frozen=True)
class Board:
    """reasons: of the newest `counted` undecided items, most frequent first. next_due: unix seconds
    at which the next undecided item is due, None without one that is not due yet."""

    reasons: dict[str, int]
    counted: int
    groups: tuple[Group, ...]
    holdings: tuple[Holding, ...]
    next_due: float | None


def board(store: Store, now: float) -> Board:
    """The queue as it is now; lists end after twenty."""
    pending = (reviews.c.origin != "known", reviews.c.state.in_(("waiting", "grouped", "parked")))
    newest = (
        sa.select(reviews.c.verdict)
        .where(*pending)
        .order_by(reviews.c.created.desc(), reviews.c.id)
        .limit(_COUNTED)
    )
    leader = reviews.alias()
    behind = sa.func.count()
    groups = (
        sa.select(leader.c.id, leader.c.key_id, behind)
        .join(reviews, reviews.c.leader == leader.c.id)
        .where(reviews.c.state == "grouped", leader.c.state == "waiting")
        .group_by(leader.c.id, leader.c.key_id)
        .order_by(behind.desc(), leader.c.id)
        .limit(_LISTED)
    )
    held = (
        sa.select(reviews.c.id, reviews.c.lease_by, reviews.c.lease_until)
        .where(reviews.c.state.in_(OPEN), reviews.c.lease_until > now)
        .order_by(reviews.c.lease_until, reviews.c.id)
        .limit(_LISTED)
    )
    due = sa.select(sa.func.min(reviews.c.due)).where(*pending, reviews.c.due > now)
    with store.read() as connection:
        verdicts = list(connection.scalars(newest))
        return Board(
            reasons=dict(
                Counter(str(r) for v in verdicts for r in v.get("reasons", ())).most_common()
            ),
            counted=len(verdicts),
            groups=tuple(Group(*row) for row in connection.execute(groups)),
            holdings=tuple(Holding(*row) for row in connection.execute(held)),
            next_due=connection.scalar(due),
        )


def behind(store: Store, leader: str, limit: int) -> list[str]:
    """Ids of the rows that stand behind an item, the riskiest first."""
    rows = (
        sa.select(reviews.c.id)
        .where(reviews.c.leader == leader, reviews.c.state == "grouped")
        .order_by(reviews.c.risk.desc(), reviews.c.created, reviews.c.id)
        .limit(limit)
    )
    with store.read() as connection:
        return list(connection.scalars(rows))
