"""One holder of a thing at a time, across processes: who runs what must run only once."""

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.tables import leases


def take(store: Store, name: str, holder: str, now: float, seconds: float) -> int | None:
    """The epoch of the lease, taken or renewed until now + seconds; None while another holds it.

    The epoch grows whenever the holder changes: what is written under an older one is late.
    """
    free = sa.or_(leases.c.until <= now, leases.c.holder == holder)
    changed = sa.case((leases.c.holder == holder, leases.c.epoch), else_=leases.c.epoch + 1)
    taken = (
        sa.update(leases)
        .where(leases.c.name == name, free)
        .values(holder=holder, until=now + seconds, epoch=changed)
        .returning(leases.c.epoch)
    )
    fresh = {"name": name, "holder": holder, "until": now + seconds, "epoch": 1}
    with store.write() as connection:
        if insert_new(connection, leases, [fresh]):
            return 1
        epoch: int | None = connection.scalar(taken)
        return epoch


def give(store: Store, name: str, holder: str, now: float) -> None:
    """Let go of it; nothing happens if another holds it."""
    mine = sa.update(leases).where(leases.c.name == name, leases.c.holder == holder)
    with store.write() as connection:
        connection.execute(mine.values(until=now))
