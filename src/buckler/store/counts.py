"""What a recorder counts."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """Durable rows and the transactions they shared; off-path things kept and dropped; SUSPICIOUS
    rows answered without an id ("degrade") or refused ("fail_closed")."""

    committed: int = 0
    groups: int = 0
    kept: int = 0
    dropped: int = 0
    degraded: int = 0
    refused: int = 0
