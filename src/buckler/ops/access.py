"""Who may call: keys with roles, found by the sha256 of what the caller shows."""

from dataclasses import dataclass
from typing import Literal, Protocol

Role = Literal["infer", "review", "operate", "admin", "metrics"]


@dataclass(frozen=True)
class Key:
    """An API key as it is stored: never the key itself.

    Args:
        digest: sha256 of the whole key, hex.
        rows_per_s: rows a second that its bucket gains.
        burst: rows its bucket holds.
        expires: unix seconds, None never.
    """

    id: str
    prefix: str
    digest: str
    roles: frozenset[Role]
    rows_per_s: float
    burst: float
    expires: float | None
    revoked: bool = False


class KeyRing(Protocol):
    """Where keys are looked up."""

    def find(self, digest: str) -> Key | None: ...
