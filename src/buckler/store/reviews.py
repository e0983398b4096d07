"""The queue: who takes what, for how long, and what a reviewer gets to see.

A lease ends by the clock of whoever asks: nothing needs to run for an item to be free again.
Decisions are in `decide.py`. Times are unix seconds.
"""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from buckler.errors import ConflictError
from buckler.ops.review import Policy, is_free, lease_until
from buckler.ops.sampling import is_known_turn
from buckler.store import audit, outbox
from buckler.store.engine import Store
from buckler.store.guise import Guise, guise
from buckler.store.intake import insert_new
from buckler.store.tables import decisions, first_answers, reviews

OPEN = ("waiting", "known")


@dataclass(frozen=True)
class Review:
    """An item as its reviewer sees it.

    prediction and verdict are None while the reviewer answers blind; an item whose answer is known
    looks like any other. similar: rows of the same client that stand behind this one. history:
    decisions, oldest first, those undone too.
    """

    id: str
    state: str
    level: int
    version: int
    risk: float
    created: float
    due: float
    media_type: str
    blob: str | None
    bundle: str
    prediction: str | None
    verdict: Mapping[str, Any] | None
    lease_id: str | None
    lease_by: str | None
    lease_until: float | None
    outcome: str | None
    label: str | None
    similar: int
    history: tuple[Mapping[str, Any], ...]


def claim(
    store: Store,
    reviewer: str,
    now: float,
    policy: Policy,
    *,
    senior: bool = False,
    secret: bytes = b"",
) -> Review | None:
    """The item this reviewer should look at next, leased to them; None if there is none.

    Highest risk × age first, never one the reviewer has answered. Who holds an item gets that one
    again, its lease renewed: nobody gathers items.

    Args:
        senior: escalated items too.
        secret: decides which turns bring an item whose answer is known.
    """
    with store.write() as connection:
        held = connection.execute(_renewed(reviewer, now, policy)).one_or_none()
        name = held.id if held else None
        if name is None and _known_turn(connection, reviewer, policy, secret):
            name = connection.scalar(_claimed("known", reviewer, now, policy, senior))
        if name is None:
            name = connection.scalar(_claimed("waiting", reviewer, now, policy, senior))
        return None if name is None else view(connection, name, policy, reviewer)


def renew(
    store: Store, review_id: str, lease_id: str, reviewer: str, now: float, policy: Policy
) -> float:
    """When the reviewer's lease, counted from now, ends. Raises: ConflictError if it ended before,
    or is another's."""
    until = lease_until(now, policy)
    with store.write() as connection:
        changed = connection.execute(
            sa.update(reviews)
            .where(
                reviews.c.id == review_id,
                reviews.c.lease_id == lease_id,
                reviews.c.lease_by == reviewer,
                reviews.c.lease_until > now,
                reviews.c.state.in_(OPEN),
            )
            .values(lease_until=until)
        )
        if changed.rowcount != 1:
            raise _lease_ended(review_id)
    return until


def release(store: Store, review_id: str, lease_id: str, reviewer: str) -> None:
    """Let go of it unanswered; nothing happens if the reviewer does not hold the lease any more."""
    mine = (
        reviews.c.id == review_id,
        reviews.c.lease_id == lease_id,
        reviews.c.lease_by == reviewer,
    )
    with store.write() as connection:
        connection.execute(sa.update(reviews).where(*mine).values(**NO_LEASE))


def first_answer(
    store: Store, review_id: str, lease_id: str, reviewer: str, label: str, now: float
) -> Review:
    """Keep what the reviewer says before they see the prediction, then show it.

    It is written once: a second one changes nothing. Raises: ConflictError if the lease ended.
    """
    with store.write() as connection:
        held(connection, review_id, lease_id, reviewer, now)
        row = {"review_id": review_id, "reviewer": reviewer, "label": label, "at": now}
        insert_new(connection, first_answers, [row])
        return view(connection, review_id, Policy(blind=True), reviewer)


def get(store: Store, review_id: str, policy: Policy, reviewer: str | None = None) -> Review | None:
    """The item; None if there is none of that id. As `reviewer` sees it, or all of it."""
    with store.read() as connection:
        there = connection.scalar(sa.select(reviews.c.id).where(reviews.c.id == review_id))
        return view(connection, review_id, policy, reviewer) if there else None


def escalate(store: Store, review_id: str, actor: str, now: float) -> None:
    """Pass an item to senior reviewers. Raises: ConflictError if it is not open at level 0."""
    with store.write() as connection:
        changed = connection.execute(
            sa.update(reviews)
            .where(reviews.c.id == review_id, reviews.c.state == "waiting", reviews.c.level == 0)
            .values(level=1, version=reviews.c.version + 1, **NO_LEASE)
        )
        if changed.rowcount != 1:
            raise ConflictError(f"only an item that waits can be escalated, once. Got {review_id}")
        audit.append(connection, now, actor, "escalate", review_id)
        outbox.put(connection, now, "review.escalated", {"id": review_id})


NO_LEASE: dict[str, None] = {"lease_id": None, "lease_by": None, "lease_until": None}


def held(
    connection: sa.Connection, review_id: str, lease_id: str, reviewer: str, now: float
) -> sa.RowMapping:
    """The item, locked, if the reviewer's lease on it runs. Raises: ConflictError."""
    row = locked(connection, review_id)
    mine = row["lease_id"] == lease_id and row["lease_by"] == reviewer
    if not mine or is_free(row["lease_until"], now):
        raise _lease_ended(review_id)
    return row


def locked(connection: sa.Connection, review_id: str) -> sa.RowMapping:
    """The item, which nobody else changes until the transaction ends. Raises: ConflictError."""
    one = sa.select(reviews).where(reviews.c.id == review_id).with_for_update()
    row = connection.execute(one).mappings().one_or_none()
    if row is None:
        raise ConflictError(f"no item under review has the id {review_id!r}: it may be erased")
    return row


def _lease_ended(review_id: str) -> ConflictError:
    return ConflictError(
        f"the lease on {review_id} ended, or is somebody else's: take the next item"
    )


def view(connection: sa.Connection, review_id: str, policy: Policy, reviewer: str | None) -> Review:
    """The item as `reviewer` may see it."""
    row = connection.execute(sa.select(reviews).where(reviews.c.id == review_id)).mappings().one()
    behind = sa.select(sa.func.count()).where(
        reviews.c.leader == review_id, reviews.c.state == "grouped"
    )
    closed = row["state"] in ("decided", "closed")
    hidden = policy.blind and not closed and not _answered_first(connection, review_id, reviewer)
    secret = row["state"] == "known"
    if reviewer is not None and secret:
        shown = guise(connection, row, reviewer, policy)
    else:
        shown = Guise(row["state"], row["level"], row["outcome"], row["label"])
    return Review(
        **{
            name: row[name]
            for name in (
                *("id", "version", "risk", "created", "due"),
                *("media_type", "blob", "bundle"),
            )
        },
        **{name: row[name] for name in NO_LEASE},
        **asdict(shown),
        prediction=None if hidden else row["prediction"],
        verdict=None if hidden else row["verdict"],
        similar=connection.scalar(behind) or 0,
        history=_history(connection, review_id, reviewer if hidden or secret else None),
    )


def _answered_first(connection: sa.Connection, review_id: str, reviewer: str | None) -> bool:
    if reviewer is None:
        return True
    first = sa.select(first_answers.c.label).where(
        first_answers.c.review_id == review_id, first_answers.c.reviewer == reviewer
    )
    return connection.scalar(first) is not None


def _history(
    connection: sa.Connection, review_id: str, only: str | None
) -> tuple[Mapping[str, Any], ...]:
    """Decisions, oldest first; those of one reviewer only where others' would tell the answer."""
    made = sa.select(decisions).where(decisions.c.review_id == review_id)
    if only is not None:
        made = made.where(decisions.c.reviewer == only)
    names = ("id", "reviewer", "kind", "label", "note", "senior", "at", "undone")
    rows = connection.execute(made.order_by(decisions.c.at, decisions.c.id)).mappings()
    return tuple({name: row[name] for name in names} for row in rows)


def _known_turn(connection: sa.Connection, reviewer: str, policy: Policy, secret: bytes) -> bool:
    if not policy.known_share:
        return False
    answered = sa.select(sa.func.count()).where(decisions.c.reviewer == reviewer)
    return is_known_turn(secret, reviewer, connection.scalar(answered) or 0, policy.known_share)


def _renewed(reviewer: str, now: float, policy: Policy) -> sa.Executable:
    held = (
        sa.select(reviews.c.id)
        .where(
            reviews.c.lease_by == reviewer,
            reviews.c.lease_until > now,
            reviews.c.state.in_(OPEN),
        )
        .order_by(reviews.c.lease_until, reviews.c.id)
        .limit(1)
    )
    return (
        sa.update(reviews)
        .where(
            reviews.c.id == held.scalar_subquery(),
            reviews.c.lease_by == reviewer,
            reviews.c.lease_until > now,
        )
        .values(lease_until=lease_until(now, policy))
        .returning(reviews.c.id)
    )


def _claimed(state: str, reviewer: str, now: float, policy: Policy, senior: bool) -> sa.Executable:
    """One statement, so that two who ask at once never get the same; its order is
    `ops.review.priority`."""
    age = now - reviews.c.created
    mine = sa.exists().where(
        decisions.c.review_id == reviews.c.id,
        decisions.c.reviewer == reviewer,
        decisions.c.undone.is_(None),
    )
    best = (
        sa.select(reviews.c.id)
        .where(
            reviews.c.state == state,
            reviews.c.level <= int(senior),
            sa.or_(reviews.c.lease_until.is_(None), reviews.c.lease_until <= now),
            ~mine,
        )
        .order_by(
            (reviews.c.risk * sa.case((age < 1.0, 1.0), else_=age)).desc(),
            reviews.c.created,
            reviews.c.id,
        )
        .limit(1)
        .with_for_update(skip_locked=True, key_share=True)
    )
    return (
        sa.update(reviews)
        .where(reviews.c.id == best.scalar_subquery())
        .values(
            lease_id=secrets.token_hex(8),
            lease_by=reviewer,
            lease_until=lease_until(now, policy),
        )
        .returning(reviews.c.id)
    )
