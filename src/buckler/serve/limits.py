"""Limits: what a runner holds, and how long it waits."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a runner holds and how long it waits.

    Args:
        batch_rows: rows judged together.
        queue_rows, queue_bytes: rows and bytes that may wait.
        hung_after_s: a batch this old is given up.
        heartbeat_s: when nothing came for so long, a blank row is judged.
        abandonments: threads that may hang or die before the runner is broken for good.
    """

    batch_rows: int = 256
    queue_rows: int = 4096
    queue_bytes: int = 256 * 1024 * 1024
    hung_after_s: float = 1.5
    heartbeat_s: float = 1.0
    abandonments: int = 3
