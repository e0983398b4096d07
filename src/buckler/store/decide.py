"""Decisions: each once, each undone only while its lease would run, each in the audit.

What an answer amounts to is a rule of `ops.review`; here it is written down, and the rows that
stood behind the item move up.
"""

import secrets
from dataclasses import asdict, dataclass

import sqlalchemy as sa

from buckler.errors import ConflictError, UsageError
from buckler.ops.review import (
    Answer,
    Policy,
    Ruling,
    check_answer,
    is_free,
    normal,
    rule,
)
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.guise import Guise, guise
from buckler.store.moving import apply_ruling, reopen
from buckler.store.reviews import OPEN, Review, held, locked, view
from buckler.store.tables import decisions, first_answers, reviews


@dataclass(frozen=True)
class Decision:
    """What a reviewer says of the item they hold.

    Args:
        version: of the item they saw.
        idempotency_key: the same decision sent twice is one; by default one a lease.
        whole_group: it holds for every row behind this one too.
    """

    review_id: str
    lease_id: str
    reviewer: str
    version: int
    kind: str
    label: str | None = None
    note: str = ""
    idempotency_key: str = ""
    senior: bool = False
    whole_group: bool = False

    @property
    def once(self) -> str:
        return self.idempotency_key or f"{self.review_id}/{self.lease_id}"


@dataclass(frozen=True)
class Decided:
    """What came of it. state: of the item; outcome and label once it is decided; undo_until:
    unix seconds."""

    id: str
    review_id: str
    state: str
    level: int
    version: int
    outcome: str | None
    label: str | None
    undo_until: float


def decide(store: Store, decision: Decision, now: float, policy: Policy) -> Decided:
    """Keep the decision durably; the same one sent again gives the same answer.

    Raises: ConflictError if the lease ended, the item changed, or the idempotency key was used for
        another decision; UsageError if the answer makes no sense, or must be given blind first.
    """
    answer = check_answer(decision.kind, decision.label)
    with store.write() as connection:
        row = locked(connection, decision.review_id)
        if earlier := _earlier(connection, decision):
            return _result(connection, earlier, row["id"], policy)
        held(connection, row["id"], decision.lease_id, decision.reviewer, now)
        if row["state"] not in OPEN or row["version"] != decision.version:
            raise ConflictError(
                f"the item {row['id']} changed: it is at version {row['version']}, the decision "
                f"was about version {decision.version}. Read it again"
            )
        if policy.blind:
            _must_have_answered(connection, row["id"], decision.reviewer)
        ruling = _ruling(connection, row, decision, answer, policy)
        name = secrets.token_hex(16)
        _keep(connection, name, decision, row, now, raised=ruling.state == "escalate")
        apply_ruling(connection, name, row, ruling, decision.whole_group, now, policy)
        facts = {
            "decision": name,
            "kind": decision.kind,
            "label": decision.label,
            "state": ruling.state,
            "whole_group": decision.whole_group,
        }
        audit.append(connection, now, decision.reviewer, "decide", row["id"], facts)
        return _result(connection, name, row["id"], policy)


def undo(store: Store, review_id: str, reviewer: str, now: float, policy: Policy) -> Review:
    """Take back one's own decision; the item is one's own again until the old lease ends.

    Raises: ConflictError once the lease would have ended, others decided since, or another reviewer
        has the item now.
    """
    with store.write() as connection:
        row = locked(connection, review_id)
        mine = sa.select(decisions).where(
            decisions.c.review_id == review_id,
            decisions.c.reviewer == reviewer,
            decisions.c.undone.is_(None),
        )
        made = connection.execute(mine).mappings().one_or_none()
        if made is None or made["undo_until"] <= now:
            raise ConflictError(f"a decision on {review_id} can be undone within its lease only")
        if row["closed_by"] not in (None, made["id"]) or row["state"] == "closed":
            raise ConflictError(f"the item {review_id} was decided by others since")
        if not is_free(row["lease_until"], now) and row["lease_by"] != reviewer:
            raise ConflictError(f"the item {review_id} is with another reviewer now")
        connection.execute(
            sa.update(decisions).where(decisions.c.id == made["id"]).values(undone=now)
        )
        reopen(connection, row, made, reviewer)
        audit.append(connection, now, reviewer, "undo", review_id, {"decision": made["id"]})
        return view(connection, review_id, policy, reviewer)


def _earlier(connection: sa.Connection, decision: Decision) -> str | None:
    """The id of this very decision, made before. Raises: ConflictError if it was another."""
    found = sa.select(decisions).where(
        decisions.c.reviewer == decision.reviewer, decisions.c.idempotency_key == decision.once
    )
    row = connection.execute(found).mappings().one_or_none()
    if row is None:
        return None
    same = (row["review_id"], row["kind"], row["label"], row["undone"])
    if same != (decision.review_id, decision.kind, decision.label, None):
        raise ConflictError(
            f"the idempotency key {decision.once!r} stands for another decision, or one that was "
            "undone: take a new one"
        )
    return str(row["id"])


def _must_have_answered(connection: sa.Connection, review_id: str, reviewer: str) -> None:
    first = sa.select(first_answers.c.label).where(
        first_answers.c.review_id == review_id, first_answers.c.reviewer == reviewer
    )
    if connection.scalar(first) is None:
        raise UsageError("this queue is blind: give your own label before you decide")


def _ruling(
    connection: sa.Connection,
    row: sa.RowMapping,
    decision: Decision,
    answer: Answer,
    policy: Policy,
) -> Ruling:
    if row["state"] == "known":
        return Ruling("open")
    made = (
        sa.select(decisions.c.kind, decisions.c.label, decisions.c.senior)
        .where(decisions.c.review_id == row["id"], decisions.c.undone.is_(None))
        .order_by(decisions.c.at, decisions.c.id)
    )
    answers = [Answer(*each) for each in connection.execute(made)]
    answers.append(Answer(answer.kind, answer.label, decision.senior))
    said = [normal(each, row["prediction"]) for each in answers]
    return rule(said, policy, row["level"])


def _keep(
    connection: sa.Connection,
    name: str,
    decision: Decision,
    row: sa.RowMapping,
    now: float,
    *,
    raised: bool,
) -> None:
    connection.execute(
        sa.insert(decisions).values(
            id=name,
            review_id=row["id"],
            reviewer=decision.reviewer,
            kind=decision.kind,
            label=decision.label,
            note=decision.note,
            senior=decision.senior,
            whole_group=decision.whole_group,
            raised=raised,
            idempotency_key=decision.once,
            at=now,
            undo_until=row["lease_until"],
        )
    )


def _result(connection: sa.Connection, name: str, review_id: str, policy: Policy) -> Decided:
    made = connection.execute(sa.select(decisions).where(decisions.c.id == name)).mappings().one()
    row = connection.execute(sa.select(reviews).where(reviews.c.id == review_id)).mappings().one()
    if row["state"] == "known":
        shown = guise(connection, row, made["reviewer"], policy)
    else:
        closed = row["state"] == "decided"
        said = (row["outcome"], row["label"]) if closed else (None, None)
        shown = Guise(row["state"], row["level"], *said)
    return Decided(
        id=name,
        review_id=review_id,
        version=row["version"],
        **asdict(shown),
        undo_until=made["undo_until"],
    )
