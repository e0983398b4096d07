"""Where the alarms of each bundle stand, for all gateways on the store together.

Each process adds what it saw; one of them folds it into the bundle's state. What was folded, the
state after it and the alerts that came of it are one transaction, so that a crash leaves all of it
or nothing: no row counts twice, and none that was added is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from buckler.ops.alarms import Alarm, State, step
from buckler.ops.alerts import EXAMPLES, Alert, found
from buckler.ops.realised import false_positives, key
from buckler.ops.rows import Reference
from buckler.store.alerts import end, raise_alert, suspects
from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.operating import monitor_rows, monitors
from buckler.store.tables import reviews

_AT_ONCE: Final = 64
_KIND: Final = "<u2"  # the same bytes on every machine


@dataclass(frozen=True)
class Telling:
    """How alerts are told: by which ways, and where the runbook is."""

    ways: tuple[str, ...] = ()
    base: str = ""


def add(store: Store, bundle: str, at: float, codes: NDArray[np.uint16]) -> None:
    """What a process saw since it last said so, in order. at: unix seconds of the first of them."""
    values = {"bundle": bundle, "at": at, "codes": codes.astype(_KIND).tobytes()}
    with store.write(durable=False) as connection:
        connection.execute(sa.insert(monitor_rows).values(values))


def read(store: Store, bundle: str) -> State:
    """Where its alarms stand; at the start for a bundle that nobody saw yet. Raises: DataError."""
    with store.read() as connection:
        mine = sa.select(monitors.c.state).where(monitors.c.bundle == bundle)
        value = connection.scalar(mine)
    return State() if value is None else State.from_dict(value)


def fold(
    store: Store, bundle: str, reference: Reference, arl: float, now: float, telling: Telling
) -> tuple[State, tuple[Alarm, ...], bool]:
    """The state after what was added, the alarms, and whether more waits.

    Thresholds may take seconds to solve, so nothing is locked meanwhile: who finds at the end that
    another was first drops what it worked out.

    Raises: DataError for a damaged state; StoreDownError.
    """
    waiting = sa.select(monitor_rows).where(monitor_rows.c.bundle == bundle)
    with store.read() as connection:
        rows = connection.execute(waiting.order_by(monitor_rows.c.id).limit(_AT_ONCE)).all()
        mine = sa.select(monitors.c.state, monitors.c.version).where(monitors.c.bundle == bundle)
        old = connection.execute(mine).one_or_none()
    state = State() if old is None else State.from_dict(old.state)
    if not rows:
        return state, (), False
    before = state
    alarms: list[Alarm] = []
    for row in rows:
        codes = np.frombuffer(row.codes, _KIND).astype(np.uint16)
        # A clock far ahead is not believed.
        state, new = step(reference, arl, state, codes, min(row.at, now))
        alarms += new
    version = 0 if old is None else old.version
    ids = [row.id for row in rows]
    if not _keep(store, bundle, state, version, now, ids, alarms, telling):
        return before, (), True
    return state, tuple(alarms), len(rows) == _AT_ONCE


def _keep(
    store: Store,
    bundle: str,
    state: State,
    version: int,
    now: float,
    ids: Sequence[int],
    alarms: Sequence[Alarm],
    telling: Telling,
) -> bool:
    """All of it, if nobody was first."""
    values = {"state": state.to_dict(), "version": version + 1, "at": now}
    latest = sa.update(monitors).where(monitors.c.bundle == bundle, monitors.c.version == version)
    with store.write() as connection:
        if version == 0:
            kept = bool(insert_new(connection, monitors, [{"bundle": bundle, **values}]))
        else:
            kept = connection.execute(latest.values(values)).rowcount == 1
        if not kept:
            return False
        connection.execute(sa.delete(monitor_rows).where(monitor_rows.c.id.in_(ids)))
        # Many alarms of one chart in a few seconds are one alert.
        last = {alarm.statistic: alarm for alarm in alarms}
        examples = suspects(connection, bundle, EXAMPLES) if last else ()
        for alarm in last.values():
            finding = found(alarm, bundle, examples)
            raise_alert(connection, finding, now, telling.ways, telling.base)
    return True


def review_outcome(
    store: Store, bundle: str, state: State, promised: float, now: float, telling: Telling
) -> Alert | None:
    """A ticket where reviewers clear more than was promised, and its end where they do no more."""
    accepted = sa.case((reviews.c.outcome == "accept", 1), else_=0)
    decided = sa.select(sa.func.coalesce(sa.func.sum(accepted), 0), sa.func.count()).where(
        reviews.c.bundle == bundle,
        reviews.c.origin == "suspicious",
        reviews.c.state == "decided",
        reviews.c.outcome != "corrupted",
    )
    with store.read() as connection:
        cleared, count = connection.execute(decided).one()
    hours = state.season.hours.values()
    suspicious = sum(hour[3] for hour in hours)
    finding = false_positives(bundle, state.seen, suspicious, int(cleared), int(count), promised)
    with store.write() as connection:
        if finding is None:
            return end(connection, key(bundle), now, telling.ways, telling.base)
        return raise_alert(connection, finding, now, telling.ways, telling.base)
