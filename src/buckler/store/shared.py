"""The queue's policy, kept in the store: replicas and the command line go by the same one."""

from dataclasses import asdict

import sqlalchemy as sa

from buckler.errors import DataError
from buckler.ops.review import Policy
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.tables import settings

_NAME = "review policy"


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
