"""API keys: shown once when made, kept as their sha256, rotated with overlap, revoked for good."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable
from typing import cast

import sqlalchemy as sa

from buckler.errors import StoreDownError, UsageError
from buckler.ops.access import Key, Role, digest_of, new_key, prefix_of
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.tables import keys


def add_key(
    store: Store,
    name: str,
    roles: Iterable[str],
    now: float,
    actor: str,
    *,
    rows_per_s: float = 1000.0,
    burst: float = 10_000.0,
    expires: float | None = None,
) -> tuple[Key, str]:
    """A new key for `name`, and its text, which nobody can show again.

    Raises: UsageError for a role, a rate or an end that cannot be.
    """
    if expires is not None and expires <= now:
        raise UsageError(f"a key must end in the future, {now:.0f} is now. Got {expires:.0f}")
    text = new_key()
    granted = cast(frozenset[Role], frozenset(roles))
    identity = (secrets.token_hex(8), prefix_of(text), digest_of(text))
    key = Key(*identity, granted, rows_per_s, burst, expires)
    values = {
        "id": key.id,
        "name": name,
        "prefix": key.prefix,
        "digest": key.digest,
        "roles": sorted(granted),
        "rows_per_s": rows_per_s,
        "burst": burst,
        "created": now,
        "expires": expires,
    }
    with store.write() as connection:
        connection.execute(sa.insert(keys).values(values))
        facts = {"name": name, "prefix": key.prefix, "roles": sorted(granted)}
        audit.append(connection, now, actor, "key.add", key.id, facts)
    return key, text


def rotate_key(
    store: Store, key_id: str, now: float, actor: str, *, overlap_s: float = 86_400.0
) -> tuple[Key, str]:
    """A new key like the old one, which ends after `overlap_s` seconds.

    Raises: UsageError if there is no such key, or it ended.
    """
    old = next((key for key in all_keys(store) if key.id == key_id), None)
    if old is None or old.revoked or (old.expires is not None and old.expires <= now):
        raise UsageError(f"only a key that is in use can be rotated. Got {key_id!r}")
    with store.read() as connection:
        name = connection.scalar(sa.select(keys.c.name).where(keys.c.id == key_id)) or ""
    made = add_key(store, name, old.roles, now, actor, rows_per_s=old.rows_per_s, burst=old.burst)
    end = now + overlap_s if old.expires is None else min(old.expires, now + overlap_s)
    with store.write() as connection:
        connection.execute(sa.update(keys).where(keys.c.id == key_id).values(expires=end))
        facts = {"by": made[0].id, "ends": end}
        audit.append(connection, now, actor, "key.rotate", key_id, facts)
    return made


def revoke_key(store: Store, key_id: str, now: float, actor: str) -> None:
    """End a key at once. Raises: UsageError if there is no such key."""
    with store.write() as connection:
        live = sa.update(keys).where(keys.c.id == key_id, keys.c.revoked.is_(None))
        if connection.execute(live.values(revoked=now)).rowcount:
            audit.append(connection, now, actor, "key.revoke", key_id)
        elif connection.scalar(sa.select(keys.c.id).where(keys.c.id == key_id)) is None:
            raise UsageError(f"there is no key {key_id!r}")


def all_keys(store: Store) -> list[Key]:
    """Every key there was, oldest first."""
    with store.read() as connection:
        rows = connection.execute(sa.select(keys).order_by(keys.c.created, keys.c.id)).mappings()
        return [
            Key(
                row["id"],
                row["prefix"],
                row["digest"],
                frozenset(row["roles"]),
                row["rows_per_s"],
                row["burst"],
                row["expires"],
                row["revoked"] is not None,
            )
            for row in rows
        ]


class TableKeys:
    """The KeyRing over the table: a copy in memory, so that no request waits for a database.

    Args:
        refresh_s: seconds after which a revoked key is refused at the latest.
        stale_s: a copy older than this, the store being down, lets nobody in.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        store: Store,
        *,
        refresh_s: float = 1.0,
        stale_s: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._refresh_s = refresh_s
        self._stale_s = stale_s
        self._clock = clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._read_at = float("-inf")
        self._found: dict[str, Key] = {}

    def find(self, digest: str) -> Key | None:
        """The key of that digest, expired or revoked ones too: who asks decides what that means."""
        if self._clock() - self._read_at > self._stale_s:
            return None
        return self._found.get(digest)

    def refresh(self) -> None:
        """Read the table now. Raises: StoreDownError."""
        began = self._clock()
        self._found = {key.digest: key for key in all_keys(self._store)}
        self._read_at = began

    def start(self) -> None:
        """Read now, and then every `refresh_s` on a thread. Raises: StoreDownError."""
        self.refresh()
        self._stop.clear()
        self._thread = threading.Thread(target=self._keep_fresh, name="buckler-keys", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)

    def _keep_fresh(self) -> None:
        while not self._stop.wait(self._refresh_s):
            try:
                self.refresh()
            except StoreDownError:
                continue  # the old copy serves until it is stale
