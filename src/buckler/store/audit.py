"""What was done by whom: a table that is only appended to, each row sealed with the one before.

A row's digest covers its own words and the digest of its predecessor, so that a row changed, taken
out or put in breaks the chain there. Rows cut off at the end leave a chain that is whole but
shorter: keep `head` elsewhere now and then, and pass it to `verify`.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from buckler.store.tables import audit

START: Final = "0" * 64
_LOCK: Final = 4_951_903
_PAGE: Final = 1000


@dataclass(frozen=True)
class Broken:
    """The first row that is not as it was written."""

    n: int
    why: str

    def __str__(self) -> str:
        return f"the audit is broken at row {self.n}: {self.why}"


def append(
    connection: sa.Connection,
    now: float,
    actor: str,
    action: str,
    subject: str,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Add a row in the caller's transaction: it stands or falls with what it tells of."""
    if connection.dialect.name == "postgresql":
        # One at a time to the end of each transaction, or two rows would follow the same one.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    n, previous = head(connection)
    row: dict[str, Any] = {
        "n": n + 1,
        "at": float(now),
        "actor": actor,
        "action": action,
        "subject": subject,
        "facts": json.dumps(dict(facts or {}), sort_keys=True, allow_nan=False),
        "previous": previous,
    }
    connection.execute(sa.insert(audit).values(**row, digest=_digest(row)))


def head(connection: sa.Connection) -> tuple[int, str]:
    """The last row's number and digest; (0, zeros) before the first."""
    last = sa.select(audit.c.n, audit.c.digest).order_by(audit.c.n.desc()).limit(1)
    found = connection.execute(last).one_or_none()
    return (0, START) if found is None else (found.n, found.digest)


def verify(connection: sa.Connection, known: tuple[int, str] | None = None) -> Broken | None:
    """The first broken row; None if the chain is whole.

    Args:
        known: an earlier `head`, kept elsewhere: the chain must still hold it.
    """
    expected, previous = 1, START
    while rows := _page(connection, expected):
        for row in rows:
            if row["n"] != expected:
                return Broken(expected, f"it is missing, the next is {row['n']}")
            if row["previous"] != previous:
                return Broken(expected, "it does not follow the row before")
            if row["digest"] != _digest(row):
                return Broken(expected, "its words are not those that were sealed")
            if known is not None and known[0] == expected and known[1] != row["digest"]:
                return Broken(expected, "it is not the row that was known")
            expected, previous = expected + 1, row["digest"]
    if known is not None and known[0] >= expected:
        return Broken(expected, f"it is missing, {known[0]} rows were known")
    return None


def _page(connection: sa.Connection, first: int) -> list[dict[str, Any]]:
    """The first time, also whatever stands before row 1."""
    after = audit.c.n >= first if first > 1 else sa.true()
    some = sa.select(audit).where(after).order_by(audit.c.n).limit(_PAGE)
    return [dict(row._mapping) for row in connection.execute(some)]


def _digest(row: Mapping[str, Any]) -> str:
    names = ("n", "at", "actor", "action", "subject", "facts", "previous")
    return hashlib.sha256(json.dumps([row[name] for name in names]).encode()).hexdigest()
