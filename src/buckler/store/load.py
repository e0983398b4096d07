"""What reviewers did over time, whether they agree, and what their decisions say of all rows."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import sqlalchemy as sa

from buckler.ops.counted import Stratum
from buckler.stats import Rate, wilson
from buckler.store.engine import Store
from buckler.store.tables import decisions, events, reviews

_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Seen:
    """All rows of a time, by status: how many, and what was decided of those that were reviewed."""

    since: float
    until: float
    suspicious: Stratum
    accepted: Stratum


def waiting(store: Store) -> int:
    """Items that nobody has decided yet."""
    pending = reviews.c.state.in_(("waiting", "grouped", "parked"))
    count = sa.select(sa.func.count()).select_from(reviews)
    with store.read() as connection:
        return connection.scalar(count.where(pending, reviews.c.origin != "known")) or 0


def decided_daily(store: Store, now: float, days: int) -> list[tuple[float, int]]:
    """(unix seconds at which the day begins in UTC, items decided): the last days, today too."""
    first = now // _DAY_S - days + 1
    bounds = [(first + n) * _DAY_S for n in range(days + 1)]
    count = sa.select(sa.func.count()).select_from(reviews).where(reviews.c.origin != "known")
    with store.read() as connection:
        found = [
            connection.scalar(count.where(reviews.c.decided >= a, reviews.c.decided < b)) or 0
            for a, b in pairwise(bounds)
        ]
    return list(zip(bounds, found, strict=False))


def agreement(store: Store, since: float) -> Rate | None:
    """Pairs of reviewers of one item who said the same / all such pairs; None without a pair.
    An unsure answer is none."""
    one, other = decisions.alias(), decisions.alias()
    said = [sa.and_(d.c.undone.is_(None), d.c.kind != "unsure") for d in (one, other)]
    label = sa.func.coalesce(one.c.label, "") == sa.func.coalesce(other.c.label, "")
    same = sa.case((sa.and_(one.c.kind == other.c.kind, label), 1), else_=0)
    pairs = (
        sa.select(sa.func.coalesce(sa.func.sum(same), 0), sa.func.count())
        .select_from(one)
        .join(other, one.c.review_id == other.c.review_id)
        .where(*said, one.c.reviewer < other.c.reviewer, other.c.at >= since)
    )
    with store.read() as connection:
        k, n = connection.execute(pairs).one()
    return wilson(int(k), int(n)) if n else None


def seen(store: Store, since: float, until: float) -> Seen:
    """Counts of [since, until). Corrupted inputs have no right answer and count as not decided."""
    added = sa.select(
        sa.func.coalesce(sa.func.sum(events.c.accepted), 0),
        sa.func.coalesce(sa.func.sum(events.c.suspicious), 0),
    ).where(events.c.at >= since, events.c.at < until, events.c.kind == "request")
    with store.read() as connection:
        accepted, suspicious = connection.execute(added).one()
        return Seen(
            since,
            until,
            _stratum(connection, "suspicious", int(suspicious), since, until),
            _stratum(connection, "sample", int(accepted), since, until),
        )


def _stratum(
    connection: sa.Connection, origin: str, rows: int, since: float, until: float
) -> Stratum:
    attack = reviews.c.outcome == "adversarial"
    wrong = sa.or_(reviews.c.label.is_(None), reviews.c.label != reviews.c.prediction)

    def many(*where: sa.ColumnElement[bool]) -> sa.ColumnElement[int]:
        return sa.func.coalesce(sa.func.sum(sa.case((sa.and_(*where), 1), else_=0)), 0)

    counts = sa.select(sa.func.count(), many(attack), many(attack, wrong)).where(
        reviews.c.created >= since,
        reviews.c.created < until,
        reviews.c.origin == origin,
        reviews.c.state == "decided",
        reviews.c.outcome != "corrupted",
    )
    decided, attacks, missed = map(int, connection.execute(counts).one())
    # Events are kept off the path: a row may be decided and its request not counted yet.
    return Stratum(max(rows, decided), decided, attacks, missed)
