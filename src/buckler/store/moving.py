"""What a ruling does to the queue: an item leaves it, and what stood behind moves up."""

import secrets
from typing import Any

import sqlalchemy as sa

from buckler.ops.review import Policy, Ruling, true_class
from buckler.store import outbox
from buckler.store.reviews import NO_LEASE
from buckler.store.tables import reviews


def apply_ruling(
    connection: sa.Connection,
    name: str,
    row: sa.RowMapping,
    ruling: Ruling,
    whole_group: bool,
    now: float,
    policy: Policy,
) -> None:
    """Write down what the answers amount to, after the decision `name`."""
    values: dict[str, Any] = {"version": reviews.c.version + 1, **NO_LEASE}
    if ruling.state == "escalate":
        values["level"] = 1
        outbox.put(connection, now, "review.escalated", {"id": row["id"]})
    if ruling.answer is None:
        connection.execute(sa.update(reviews).where(reviews.c.id == row["id"]).values(values))
        return
    outcome = ruling.answer.kind
    label = true_class(ruling.answer, row["prediction"])
    closing = {"state": "decided", "outcome": outcome, "decided": now, "closed_by": name}
    of = reviews.c.id == row["id"]
    connection.execute(sa.update(reviews).where(of).values(label=label, **values, **closing))
    if whole_group:
        behind = (reviews.c.leader == row["id"], reviews.c.state == "grouped")
        # An accept speaks of the machine's answer, and each row has its own.
        theirs = reviews.c.prediction if outcome == "accept" else sa.literal(label, sa.Text)
        connection.execute(
            sa.update(reviews).where(*behind).values(label=theirs, **values, **closing)
        )
    move_up(connection, row, policy)
    body = {"id": row["id"], "outcome": outcome, "label": label, "bundle": row["bundle"]}
    outbox.put(connection, now, "review.decided", body)


def move_up(connection: sa.Connection, row: sa.RowMapping, policy: Policy) -> None:
    """An item left the queue: the next of its group leads, and parked rows of its client fill the
    room there is."""
    first = (reviews.c.risk.desc(), reviews.c.created, reviews.c.id)
    behind = (reviews.c.leader == row["id"], reviews.c.state == "grouped")
    next_one = connection.scalar(sa.select(reviews.c.id).where(*behind).order_by(*first).limit(1))
    if next_one is not None:
        connection.execute(sa.update(reviews).where(*behind).values(leader=next_one))
        up = sa.update(reviews).where(reviews.c.id == next_one)
        connection.execute(up.values(state="waiting", leader=None))
    client = (reviews.c.key_id == row["key_id"], reviews.c.origin == "suspicious")
    waiting = sa.select(sa.func.count()).where(*client, reviews.c.state == "waiting")
    room = policy.client_cap - (connection.scalar(waiting) or 0)
    if room > 0:
        parked = (
            sa.select(reviews.c.id)
            .where(*client, reviews.c.state == "parked")
            .order_by(*first)
            .limit(room)
            .with_for_update(skip_locked=True)
        )
        names = list(connection.scalars(parked))
        connection.execute(
            sa.update(reviews).where(reviews.c.id.in_(names)).values(state="waiting")
        )


def reopen(
    connection: sa.Connection, row: sa.RowMapping, made: sa.RowMapping, reviewer: str
) -> None:
    """The item as it was before the decision, and with its reviewer."""
    opened: dict[str, Any] = {"version": reviews.c.version + 1}
    if row["closed_by"] == made["id"]:
        opened |= {"outcome": None, "label": None, "decided": None, "closed_by": None}
        behind = (reviews.c.closed_by == made["id"], reviews.c.id != row["id"])
        grouped = sa.update(reviews).where(*behind)
        connection.execute(grouped.values(state="grouped", **opened))
        opened["state"] = "waiting"
    if made["raised"]:
        opened["level"] = 0
    lease = {
        "lease_id": secrets.token_hex(8),
        "lease_by": reviewer,
        "lease_until": made["undo_until"],
    }
    connection.execute(
        sa.update(reviews).where(reviews.c.id == row["id"]).values(**opened, **lease)
    )
