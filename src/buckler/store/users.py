"""People who log in: passwords as argon2 hashes, sessions as signed tokens that can be ended."""

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from buckler.errors import UsageError
from buckler.ops.access import ROLES, Role
from buckler.store import audit
from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.tables import sessions, users

_HASHER: Final = PasswordHasher()
_SHORTEST: Final = 12
SESSION_S: Final = 8 * 3600.0


@dataclass(frozen=True)
class User:
    """A person. senior: escalated items are theirs to decide."""

    name: str
    roles: frozenset[Role]
    senior: bool


def add_user(
    store: Store,
    name: str,
    password: str,
    roles: Iterable[str],
    now: float,
    actor: str,
    *,
    senior: bool = False,
) -> User:
    """Raises: UsageError for a name that is taken or empty, a short password, an unknown role."""
    user = User(name, _roles(roles), senior)
    values = {
        "name": name,
        "password": _hash(password),
        "roles": sorted(user.roles),
        "senior": senior,
        "created": now,
    }
    if not name.strip():
        raise UsageError("a user needs a name. Got none")
    with store.write() as connection:
        if not insert_new(connection, users, [values]):
            raise UsageError(f"there is a user {name!r} already")
        facts = {"roles": sorted(user.roles), "senior": senior}
        audit.append(connection, now, actor, "user.add", name, facts)
    return user


def set_password(store: Store, name: str, password: str, now: float, actor: str) -> None:
    """Change it, and end every session. Raises: UsageError if there is no such user."""
    _change(store, name, now, actor, "user.password", password=_hash(password))


def disable_user(store: Store, name: str, now: float, actor: str) -> None:
    """Let them in no more, and end every session. Raises: UsageError if there is no such user."""
    _change(store, name, now, actor, "user.disable", disabled=now)


def check_password(store: Store, name: str, password: str) -> User | None:
    """The user, if this is their password. Takes as long for a name that does not exist."""
    nobodys = _nobodys()  # here, or the first unknown name would take longer than a known one
    with store.read() as connection:
        found = sa.select(users).where(users.c.name == name, users.c.disabled.is_(None))
        row = connection.execute(found).mappings().one_or_none()
    try:
        _HASHER.verify(nobodys if row is None else row["password"], password)
    except (VerificationError, InvalidHashError):
        return None
    return None if row is None else User(name, _roles(row["roles"]), row["senior"])


def open_session(
    store: Store, user: User, now: float, signing: Sequence[bytes], *, seconds: float = SESSION_S
) -> str:
    """A token for a cookie: 256 random bits, signed with the first secret; its hash is kept."""
    session = secrets.token_urlsafe(32)
    values = {
        "digest": _digest(session),
        "user_name": user.name,
        "created": now,
        "expires": now + seconds,
    }
    with store.write() as connection:
        connection.execute(sa.delete(sessions).where(sessions.c.expires <= now))
        connection.execute(sa.insert(sessions).values(values))
        audit.append(connection, now, user.name, "login", user.name)
    return f"{session}.{_signature(session, _first(signing))}"


def find_session(store: Store, token: str, now: float, signing: Sequence[bytes]) -> User | None:
    """Whose token this is; None if it is forged, ended, or its user may not come in.

    Args:
        signing: the secrets; all of them are accepted, so that a new first one ends no session.
    """
    session, _, signature = token.partition(".")
    shown = signature.encode()
    good = [hmac.compare_digest(_signature(session, each).encode(), shown) for each in signing]
    if not any(good):
        return None
    mine = (
        sa.select(users.c.name, users.c.roles, users.c.senior)
        .join(sessions, sessions.c.user_name == users.c.name)
        .where(
            sessions.c.digest == _digest(session),
            sessions.c.expires > now,
            users.c.disabled.is_(None),
        )
    )
    with store.read() as connection:
        row = connection.execute(mine).one_or_none()
    return None if row is None else User(row.name, _roles(row.roles), row.senior)


def close_session(store: Store, token: str) -> None:
    """Log out; nothing happens if the session ended before."""
    digest = _digest(token.partition(".")[0])
    with store.write() as connection:
        connection.execute(sa.delete(sessions).where(sessions.c.digest == digest))


def _change(
    store: Store, name: str, now: float, actor: str, action: str, **values: str | float
) -> None:
    with store.write() as connection:
        changed = connection.execute(sa.update(users).where(users.c.name == name).values(values))
        if not changed.rowcount:
            raise UsageError(f"there is no user {name!r}")
        connection.execute(sa.delete(sessions).where(sessions.c.user_name == name))
        audit.append(connection, now, actor, action, name)


def _hash(password: str) -> str:
    if len(password) < _SHORTEST:
        raise UsageError(f"a password must have {_SHORTEST} characters or more")
    return _HASHER.hash(password)


@lru_cache(maxsize=1)
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_urlsafe(16))


def _first(signing: Sequence[bytes]) -> bytes:
    if not signing or any(len(each) < 16 for each in signing):
        raise UsageError("sessions are signed with one or more secrets of 16 bytes or more")
    return signing[0]


def _signature(session: str, secret: bytes) -> str:
    return hmac.new(secret, b"session " + session.encode(), hashlib.sha256).hexdigest()


def _digest(session: str) -> str:
    return hashlib.sha256(session.encode()).hexdigest()


def _roles(roles: Iterable[str]) -> frozenset[Role]:
    given = set(roles)
    if not given or not given <= set(ROLES):
        got = ", ".join(sorted(given)) or "none"
        raise UsageError(f"a user's roles must be some of {', '.join(ROLES)}. Got {got}")
    return frozenset(cast(set[Role], given))
