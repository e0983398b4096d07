"""Which bundle answers: one row that every gateway on the store goes by."""

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.operating import live

_NAME: Final = "live"


@dataclass(frozen=True)
class Live:
    """digest, path: of the stable bundle. weight: per cent of clients that the candidate answers.
    epoch: 0 until the first rollout: each gateway serves what it was started with."""

    epoch: int
    digest: str
    path: str
    rollout_id: str | None
    candidate_digest: str | None
    candidate_path: str | None
    weight: int


def read_live(store: Store) -> Live | None:
    """None before any gateway told what it serves. Raises: StoreDownError."""
    with store.read() as connection:
        return live_in(connection)


def live_in(connection: sa.Connection) -> Live | None:
    row = connection.execute(sa.select(live).where(live.c.name == _NAME)).mappings().one_or_none()
    return None if row is None else Live(**{k: row[k] for k in Live.__dataclass_fields__})


def tell_live(store: Store, digest: str, path: str, now: float) -> Live:
    """A gateway tells what it was started with. Returns: what is live, which is that only as long
    as there was no rollout."""
    row = {"name": _NAME, "digest": digest, "path": path, "epoch": 0, "weight": 0, "at": now}
    with store.write() as connection:
        if not insert_new(connection, live, [row]):
            mine = sa.update(live).where(live.c.name == _NAME, live.c.epoch == 0)
            connection.execute(mine.values(digest=digest, path=path, at=now))
        found = live_in(connection)
    assert found is not None
    return found


def point(connection: sa.Connection, now: float, **values: object) -> None:
    """Change it, in the caller's transaction."""
    changed = sa.update(live).where(live.c.name == _NAME)
    connection.execute(changed.values(epoch=live.c.epoch + 1, at=now, **values))
