"""Items whose answer is known, put among the others to measure reviewers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from buckler.errors import UsageError
from buckler.ops.review import Answer, Policy, check_answer
from buckler.ops.sampling import measure
from buckler.stats import Rate
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.intake import Item, arrival, insert_new
from buckler.store.tables import blobs, decisions, reviews


@dataclass(frozen=True)
class Known:
    """An input, the machine's verdict on it, and the right decision."""

    content: bytes = field(repr=False)
    media_type: str
    verdict: Mapping[str, Any]
    kind: str
    label: str | None = None


def seed(store: Store, items: Sequence[Known], now: float, actor: str) -> list[str]:
    """Keep known items; their ids. The same content again changes nothing.

    Raises: UsageError for an answer that cannot be right.
    """
    arrivals = []
    for known in items:
        answer = check_answer(known.kind, known.label)
        if answer.kind == "unsure":
            raise UsageError("the answer to a known item must be known. Got 'unsure'")
        item = Item("known", 0, "", known.content, known.media_type, known.verdict, 1.0, "")
        made = arrival(item, now, Policy())
        truth = {"origin": "known", "state": "known", "outcome": answer.kind, "label": answer.label}
        store.blobs.put(known.content)
        arrivals.append(({**made.values, **truth}, len(known.content)))
    with store.write() as connection:
        for values, size in arrivals:
            kept = {"digest": values["blob"], "size": size, "created": now}
            insert_new(connection, blobs, [kept])
            insert_new(connection, reviews, [values])
        audit.append(connection, now, actor, "seed", "known items", {"count": len(arrivals)})
    return [str(values["id"]) for values, _ in arrivals]


def measured(store: Store) -> dict[str, Rate]:
    """Each reviewer's right / answered on known items, with Wilson's 95 % interval."""
    answered = (
        sa.select(
            decisions.c.reviewer,
            decisions.c.kind,
            decisions.c.label,
            reviews.c.outcome,
            reviews.c.label.label("truth"),
            reviews.c.prediction,
        )
        .join(reviews, reviews.c.id == decisions.c.review_id)
        .where(reviews.c.state == "known", decisions.c.undone.is_(None))
    )
    pairs: dict[str, list[tuple[Answer, Answer, str]]] = {}
    with store.read() as connection:
        for row in connection.execute(answered):
            given, truth = Answer(row.kind, row.label), Answer(row.outcome, row.truth)
            pairs.setdefault(row.reviewer, []).append((given, truth, row.prediction))
    rates = {name: measure(each) for name, each in sorted(pairs.items())}
    return {name: rate for name, rate in rates.items() if rate is not None}
