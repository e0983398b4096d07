"""How an item whose answer is known looks to reviewers: like any other, before and after."""

from dataclasses import dataclass

import sqlalchemy as sa

from buckler.ops.review import Answer, Policy, normal, rule, true_class
from buckler.store.tables import decisions


@dataclass(frozen=True)
class Guise:
    """What an ordinary item would show in its place."""

    state: str = "waiting"
    level: int = 0
    outcome: str | None = None
    label: str | None = None


def guise(connection: sa.Connection, row: sa.RowMapping, reviewer: str, policy: Policy) -> Guise:
    """As if nobody but `reviewer` had answered it, and the answer counted."""
    mine = sa.select(decisions.c.kind, decisions.c.label, decisions.c.senior).where(
        decisions.c.review_id == row["id"],
        decisions.c.reviewer == reviewer,
        decisions.c.undone.is_(None),
    )
    said = connection.execute(mine).one_or_none()
    if said is None:
        return Guise()
    ruling = rule([normal(Answer(*said), row["prediction"])], policy, 0)
    if ruling.answer is None:
        return Guise(level=int(ruling.state == "escalate"))
    label = true_class(ruling.answer, row["prediction"])
    return Guise("decided", 0, ruling.answer.kind, label)
