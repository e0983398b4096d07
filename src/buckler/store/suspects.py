"""Who was seen sending runs of near-equal inputs, so that every gateway on the store acts on it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.operating import suspects


@dataclass(frozen=True)
class Mark:
    """One finding, until it expires.

    client: whose inputs; "" where no client sent enough of them: only what is near counts.
    kind: how it was seen. near: how many inputs of the run there were.
    grace: rows that are still answered as if nothing had been seen.
    cells: of the image that showed it, hex of a byte a cell.
    """

    id: str
    client: str
    kind: str
    near: int
    since: float
    until: float
    grace: int
    cells: str = field(repr=False)


def put(store: Store, marks: Sequence[Mark], now: float) -> None:
    """Keep these; what has expired goes. Raises: StoreDownError."""
    with store.write(durable=False) as connection:
        connection.execute(sa.delete(suspects).where(suspects.c.until <= now))
        connection.execute(sa.insert(suspects), [asdict(mark) for mark in marks])


def read(store: Store, now: float) -> list[Mark]:
    """Those that have not expired, oldest first. Raises: StoreDownError."""
    live = sa.select(suspects).where(suspects.c.until > now)
    with store.read() as connection:
        rows = connection.execute(live.order_by(suspects.c.since, suspects.c.id)).mappings()
        return [Mark(**row) for row in rows]
