"""How the queue stands, and what it tells of the machine's answers."""

from dataclasses import dataclass

import sqlalchemy as sa

from buckler.ops.sampling import Estimate, estimate
from buckler.stats import Rate
from buckler.store.engine import Store
from buckler.store.known import measured
from buckler.store.tables import decisions, events, reviews


@dataclass(frozen=True)
class QueueStats:
    """Counts of items; oldest_s: age of the oldest that waits.

    states: items a state, those known apart. outcomes: decided items an outcome. clients: the ten
    with the most undecided items. answers: standing decisions a reviewer. reviewers: right /
    answered on known items. machine: how often its answer was wrong since `since`, None before
    enough is decided.
    """

    states: dict[str, int]
    escalated: int
    leased: int
    overdue: int
    oldest_s: float
    outcomes: dict[str, int]
    clients: dict[str, int]
    answers: dict[str, int]
    reviewers: dict[str, Rate]
    machine: Estimate | None


def stats(store: Store, now: float, since: float = 0.0) -> QueueStats:
    """The queue as it is now; `since` (unix seconds) is where the machine's rates begin."""
    item = reviews.c.origin != "known"
    pending = reviews.c.state.in_(("waiting", "grouped", "parked"))
    number = sa.func.count()
    with store.read() as connection:

        def counts(column: sa.ColumnElement[str], *where: sa.ColumnElement[bool]) -> dict[str, int]:
            found = sa.select(column, number).where(*where).group_by(column)
            ordered = found.order_by(number.desc(), column).limit(50)
            return {str(row[0]): int(row[1]) for row in connection.execute(ordered)}

        def many(*where: sa.ColumnElement[bool]) -> int:
            return connection.scalar(sa.select(number).select_from(reviews).where(*where)) or 0

        waiting = reviews.c.state == "waiting"
        oldest = connection.scalar(sa.select(sa.func.min(reviews.c.created)).where(item, pending))
        clients = counts(reviews.c.key_id, item, pending)
        return QueueStats(
            states=counts(reviews.c.state, item),
            escalated=many(waiting, reviews.c.level > 0),
            leased=many(waiting, reviews.c.lease_until > now),
            overdue=many(item, pending, reviews.c.due <= now),
            oldest_s=0.0 if oldest is None else max(0.0, now - oldest),
            outcomes=counts(reviews.c.outcome, item, reviews.c.state == "decided"),
            clients=dict(list(clients.items())[:10]),
            answers=counts(decisions.c.reviewer, decisions.c.undone.is_(None)),
            reviewers=measured(store),
            machine=_machine(connection, since),
        )


def _machine(connection: sa.Connection, since: float) -> Estimate | None:
    accepted = connection.scalar(
        sa.select(sa.func.sum(events.c.accepted)).where(events.c.at >= since)
    )
    suspicious = connection.scalar(
        sa.select(sa.func.count())
        .select_from(reviews)
        .where(reviews.c.origin == "suspicious", reviews.c.created >= since)
    )
    return estimate(
        int(accepted or 0),
        _wrong(connection, "sample", since),
        int(suspicious or 0),
        _wrong(connection, "suspicious", since),
    )


def _wrong(connection: sa.Connection, origin: str, since: float) -> tuple[int, int]:
    """(wrong, decided): a corrupted input has no right answer, and counts in neither."""
    wrong = sa.or_(reviews.c.label.is_(None), reviews.c.label != reviews.c.prediction)
    decided = sa.select(
        sa.func.coalesce(sa.func.sum(sa.case((wrong, 1), else_=0)), 0), sa.func.count()
    ).where(
        reviews.c.origin == origin,
        reviews.c.created >= since,
        reviews.c.state == "decided",
        reviews.c.outcome != "corrupted",
    )
    row = connection.execute(decided).one()
    return int(row[0]), int(row[1])
