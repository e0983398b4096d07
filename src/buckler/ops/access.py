"""Keys and roles: what a key is, how one is made, and what it may do.

A key is 256 random bits behind a prefix that may be shown. Only its sha256 is kept: of 256 random
bits nothing can be guessed, so nothing slower is needed.
"""

import hashlib
import hmac
import math
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from buckler.errors import UsageError

Role = Literal["infer", "review", "operate", "admin", "metrics"]
ROLES: tuple[Role, ...] = get_args(Role)

_LETTERS = string.digits + string.ascii_letters
_SECRET = 43  # 62 ** 43 > 2 ** 256
_FORM = re.compile(r"bk_[0-9A-Za-z]{8}_[0-9A-Za-z_-]{43}")


@dataclass(frozen=True)
class Key:
    """What is kept of a key.

    Args:
        prefix: the key's first characters, to recognise it by.
        digest: sha256 of the whole key, in hex.
        rows_per_s: rows it may send a second in the long run; infinity: any number.
        burst: rows it may send at once after a pause.
        expires: unix seconds; None: never.
    """

    id: str
    prefix: str
    digest: str
    roles: frozenset[Role]
    rows_per_s: float
    burst: float
    expires: float | None
    revoked: bool = False

    def __post_init__(self) -> None:
        if not self.id or len(self.id) > 64 or not self.id.isprintable():
            raise UsageError(f"a key's id must be 1 to 64 printable characters. Got {self.id!r}")
        if not re.fullmatch(r"[0-9a-f]{64}", self.digest):
            raise UsageError(f"the digest of the key {self.id!r} must be a sha256 in hex")
        if not self.roles or not self.roles <= set(ROLES):
            got = ", ".join(sorted(map(str, self.roles))) or "none"
            raise UsageError(
                f"the roles of the key {self.id!r} must be some of {', '.join(ROLES)}. Got {got}"
            )
        if not (self.rows_per_s > 0 and self.burst > 0):
            raise UsageError(
                f"rows_per_s and burst of the key {self.id!r} must be > 0. "
                f"Got {self.rows_per_s:g} and {self.burst:g}"
            )

    @property
    def limited(self) -> bool:
        return self.rows_per_s < math.inf

    def valid(self, now: float) -> bool:
        """Neither revoked nor expired at `now`, in unix seconds."""
        return not self.revoked and (self.expires is None or now < self.expires)


class KeyRing(Protocol):
    """Where keys are found. Asked at every request: it answers from memory."""

    def find(self, digest: str) -> Key | None: ...


class Keys:
    """A KeyRing of keys that are all known at the start."""

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys: Mapping[str, Key] = {key.digest: key for key in keys}

    def find(self, digest: str) -> Key | None:
        return self._keys.get(digest)


def new_key() -> str:
    """A fresh key, "bk_" + 8 letters to recognise it by + "_" + 256 random bits."""
    shown = "".join(secrets.choice(_LETTERS) for _ in range(8))
    number, letters = secrets.randbits(256), []
    for _ in range(_SECRET):
        number, letter = divmod(number, len(_LETTERS))
        letters.append(_LETTERS[letter])
    return f"bk_{shown}_{''.join(letters)}"


def prefix_of(key: str) -> str:
    """The part that may be shown."""
    return key[: len("bk_") + 8]


def digest_of(key: str) -> str:
    """Raises: UsageError if it is no key, without repeating it."""
    if not _FORM.fullmatch(key):
        raise UsageError("a key must be bk_, 8 letters or digits, _ and 43 letters, digits, _ or -")
    return hashlib.sha256(key.encode()).hexdigest()


def find_key(ring: KeyRing, given: str, now: float) -> Key | None:
    """The valid key that `given` is; None for one that is unknown, expired or revoked."""
    if not _FORM.fullmatch(given):
        return None
    digest = digest_of(given)
    key = ring.find(digest)
    # A ring may find by less than the whole digest, or take its time; this tells it nothing.
    if key is None or not hmac.compare_digest(key.digest, digest):
        return None
    return key if key.valid(now) else None
