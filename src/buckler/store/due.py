"""Items whose time has passed before anybody decided."""

from typing import Any, Final

import sqlalchemy as sa

from buckler.ops.review import Policy
from buckler.store import audit, outbox
from buckler.store.engine import Store
from buckler.store.moving import move_up
from buckler.store.reviews import NO_LEASE
from buckler.store.tables import reviews

_AT_ONCE: Final = 500


def due(store: Store, now: float, policy: Policy) -> list[str]:
    """Do what the policy says with items whose time has passed; their ids. Call it again while it
    gives any. Who holds an item may finish it first."""
    late = (
        sa.select(reviews)
        .where(
            reviews.c.state.in_(("waiting", "grouped", "parked")),
            reviews.c.due <= now,
            reviews.c.due_seen.is_(None),
            sa.or_(reviews.c.lease_until.is_(None), reviews.c.lease_until <= now),
        )
        .order_by(reviews.c.due, reviews.c.id)
        .limit(_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    with store.write() as connection:
        rows = connection.execute(late).mappings().all()
        if not rows:
            return []
        names = [row["id"] for row in rows]
        values: dict[str, Any] = {"due_seen": now, "version": reviews.c.version + 1, **NO_LEASE}
        if policy.on_due == "escalate":
            values["level"] = 1
        if policy.on_due == "close":
            values |= {"state": "closed", "decided": now}
        connection.execute(sa.update(reviews).where(reviews.c.id.in_(names)).values(values))
        if policy.on_due == "close":
            for row in rows:
                move_up(connection, row, policy)
        facts = {"count": len(names), "first": names[:20], "then": policy.on_due}
        audit.append(connection, now, "policy", "due", names[0], facts)
        outbox.put(connection, now, "review.due", facts)
    return names
