"""Which of two bundles answers a client: sticky, secret, and only ever from the old to the new."""

import hmac
from typing import Final, Literal

from buckler.ops.sampling import draw

Side = Literal["stable", "candidate"]
_LABEL: Final = "rollout arm"


def salt(secret: bytes, stable: str, candidate: str) -> bytes:
    """Of the rollout from one bundle to another. The same pair again has the same salt, so that
    starting a rollout anew draws no new lots.

    Args:
        secret: of the store, which no caller knows.
        stable, candidate: digests.
    """
    return hmac.digest(secret, f"{stable} {candidate}".encode(), "sha256")


def side(salt: bytes, client: str, weight: int) -> Side:
    """Who answers the client, while `weight` per cent of all clients go to the candidate.

    A client keeps its lot: at a higher weight, clients only move from stable to candidate. Neither
    input nor request counts, so asking again is answered by the same bundle.

    >>> {side(b"salt", "shop", 0), side(b"salt", "shop", 100)} == {"stable", "candidate"}
    True
    """
    return "candidate" if draw(salt, _LABEL, client) < weight / 100 else "stable"
