"""Alerts in the store: raised once a key, whoever races, and told through the outbox in the same
transaction, so that none is raised and not told."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from buckler.errors import ConflictError
from buckler.ops.alerts import QUIET_S, Alert, Finding, State, again, alertmanager, is_over, new
from buckler.store import audit, outbox
from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.operating import alerts
from buckler.store.tables import reviews

WEBHOOK: Final = "alert.webhook"
APPRISE: Final = "alert.apprise"
_OF_FINDING: Final = tuple(Finding.__dataclass_fields__)


def raise_alert(
    connection: sa.Connection, finding: Finding, now: float, ways: Sequence[str], base: str
) -> Alert:
    """Raise it, or count it where one of its key stands, in the caller's transaction.

    Args:
        ways: by which to tell: WEBHOOK, APPRISE.
        base: URL of the guide with the runbook.
    """
    made = new(secrets.token_hex(16), finding, now)
    if insert_new(connection, alerts, [_row(made)]):
        _tell(connection, made, now, ways, base)
        return made
    standing = sa.select(alerts).where(alerts.c.key == finding.key, alerts.c.resolved.is_(None))
    old = connection.execute(standing.with_for_update()).mappings().one()
    found, tell = again(_alert(old), finding, now)
    _write(connection, found)
    if tell:
        _tell(connection, found, now, ways, base)
    return found


def end_quiet(store: Store, now: float, ways: Sequence[str], base: str) -> list[Alert]:
    """Resolve the monitor's alerts that went on no longer; those alerts."""
    standing = sa.select(alerts).where(alerts.c.resolved.is_(None))
    far = sa.or_(alerts.c.last <= now - QUIET_S, alerts.c.last >= now + QUIET_S)
    with store.read() as connection:
        if connection.execute(standing.where(far).limit(1)).first() is None:
            return []
    with store.write() as connection:
        rows = connection.execute(standing.where(far).with_for_update()).mappings().all()
        over = [alert for alert in map(_alert, rows) if is_over(alert, now)]
        return [_end(connection, alert, now, ways, base) for alert in over]


def end(
    connection: sa.Connection, key: str, now: float, ways: Sequence[str], base: str
) -> Alert | None:
    """Resolve what stands under a key, for its source said that it is over; None for nothing."""
    standing = sa.select(alerts).where(alerts.c.key == key, alerts.c.resolved.is_(None))
    row = connection.execute(standing.with_for_update()).mappings().one_or_none()
    return None if row is None else _end(connection, _alert(row), now, ways, base)


def acknowledge(store: Store, id: str, now: float, actor: str) -> Alert | None:
    """Somebody takes care of it; None for no such alert. Raises: ConflictError if it is over."""
    mine = sa.update(alerts).where(alerts.c.id == id, alerts.c.state == "open")
    values = {"state": "acknowledged", "by": actor, "acknowledged": now}
    with store.write() as connection:
        taken = connection.execute(mine.values(values)).rowcount
        row = connection.execute(sa.select(alerts).where(alerts.c.id == id)).mappings().first()
        if row is None:
            return None
        if row["state"] == "resolved":
            raise ConflictError("this alert is resolved: there is nothing to take care of")
        if taken:
            audit.append(connection, now, actor, "acknowledge", id, {"key": row["key"]})
        return _alert(row)


def listed(store: Store, state: State | None = None, limit: int = 100) -> list[Alert]:
    """The newest first, pages before tickets among those that are not resolved."""
    wanted = sa.select(alerts).where(sa.true() if state is None else alerts.c.state == state)
    order = (alerts.c.resolved.is_not(None), alerts.c.tier, alerts.c.last.desc(), alerts.c.id)
    with store.read() as connection:
        rows = connection.execute(wanted.order_by(*order).limit(limit)).mappings().all()
    return [_alert(row) for row in rows]


def standing(store: Store) -> dict[str, int]:
    """How many alerts are not resolved, a tier."""
    count = sa.select(alerts.c.tier, sa.func.count()).where(alerts.c.resolved.is_(None))
    with store.read() as connection:
        rows = connection.execute(count.group_by(alerts.c.tier)).all()
    return {"page": 0, "ticket": 0, **{str(tier): int(number) for tier, number in rows}}


def suspects(connection: sa.Connection, bundle: str, limit: int) -> tuple[str, ...]:
    """Review ids of the latest SUSPICIOUS rows of a bundle."""
    latest = (
        sa.select(reviews.c.id)
        .where(reviews.c.bundle == bundle, reviews.c.origin == "suspicious")
        .order_by(reviews.c.created.desc(), reviews.c.id)
        .limit(limit)
    )
    return tuple(connection.scalars(latest))


def _end(
    connection: sa.Connection, alert: Alert, now: float, ways: Sequence[str], base: str
) -> Alert:
    over = Alert(**{**vars(alert), "state": "resolved", "resolved": now, "told": now})
    _write(connection, over)
    _tell(connection, over, now, ways, base)
    return over


def _tell(
    connection: sa.Connection, alert: Alert, now: float, ways: Sequence[str], base: str
) -> None:
    for way in ways:
        outbox.put(connection, now, way, alertmanager(alert, base))


def _write(connection: sa.Connection, alert: Alert) -> None:
    connection.execute(sa.update(alerts).where(alerts.c.id == alert.id).values(_row(alert)))


def _row(alert: Alert) -> dict[str, Any]:
    given = {**vars(alert), **asdict(alert.finding)}
    del given["finding"]
    return {**given, "examples": list(given["examples"])}


def _alert(row: Mapping[Any, Any]) -> Alert:
    given = dict(row)
    finding = {name: given.pop(name) for name in _OF_FINDING}
    return Alert(finding=Finding(**{**finding, "examples": tuple(finding["examples"])}), **given)
