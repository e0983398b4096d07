"""What is kept in the store so that replicas and the command line go by the same: the queue's
policy, and a secret for sessions where the operator gave none."""

import secrets
from dataclasses import asdict

import sqlalchemy as sa

from buckler.errors import DataError
from buckler.ops.review import Policy
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.tables import settings

_NAME = "review policy"
_SECRET = "session secret"


def read_policy(store: Store) -> Policy:
    """The policy that was set, else the default one. Raises: DataError if it is damaged."""
    with store.read() as connection:
        value = connection.scalar(sa.select(settings.c.value).where(settings.c.name == _NAME))
    try:
        return Policy(**(value or {}))
    except (TypeError, ValueError) as error:
        raise DataError(f"the review policy in the store cannot be used: {error}") from None


def set_policy(store: Store, policy: Policy, now: float, actor: str) -> None:
    """Go by this policy from now on; what was decided stays so."""
    row = {"name": _NAME, "value": asdict(policy), "at": now}
    with store.write() as connection:
        if not insert_new(connection, settings, [row]):
            old = sa.update(settings).where(settings.c.name == _NAME)
            connection.execute(old.values(value=row["value"], at=now))
        audit.append(connection, now, actor, "policy", _NAME, asdict(policy))


def session_secret(store: Store, now: float) -> bytes:
    """A secret of this store, made when it is first asked for: all replicas sign with the same.

    Who reads it in the store or a copy cannot make a session of it: that takes 256 random bits, of
    which the store has a hash.
    """
    row = {"name": _SECRET, "value": secrets.token_hex(32), "at": now}
    with store.write() as connection:
        insert_new(connection, settings, [row])
        mine = sa.select(settings.c.value).where(settings.c.name == _SECRET)
        return str(connection.scalar(mine)).encode()
