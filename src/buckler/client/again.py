"""When a request is sent again: only where that is safe, and never past its deadline.

Nothing here sends, sleeps or reads a clock of its own: whoever drives `turns` does.
"""

import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final

from buckler.client.replies import Broken, Reply
from buckler.errors import UsageError

_FIRST_S = 0.1
_MOST_S = 5.0
_JITTER = 0.25


@dataclass(frozen=True)
class Patience:
    """How long a call may take, and how often it is tried.

    Args:
        deadline_s: seconds of a call, all its requests and tries together.
        tries: of one request.
    """

    deadline_s: float = 30.0
    tries: int = 5

    def __post_init__(self) -> None:
        if not self.deadline_s > 0 or self.tries < 1:
            raise UsageError(
                f"a client needs deadline_s > 0 and tries >= 1. Got {self.deadline_s} and "
                f"{self.tries}"
            )


DEFAULT: Final = Patience()


@dataclass(frozen=True)
class Turn:
    """Wait, then send and give up after so long; both in seconds."""

    wait_s: float
    timeout_s: float


def turns(
    tries: int,
    until: float,
    twice: bool,
    now: Callable[[], float] = time.monotonic,
    chance: Callable[[], float] = random.random,
) -> Generator[Turn, Reply | Broken, Reply | Broken]:
    """Yields what to do next, is sent what came of it, returns what counts.

    Args:
        until: the deadline, by the clock `now`.
        twice: whether the gateway may get the request twice. If not, it is sent again only where
            it certainly was not taken.
        chance: from [0, 1): clients that were refused together shall not come back together.
    """
    wait = 0.0
    for attempt in range(tries):
        left = until - now() - wait
        if left <= 0:
            return Broken("the deadline was over before it could be asked", sent=False)
        outcome = yield Turn(wait, left)
        pause = _pause(outcome, attempt, twice)
        if pause is None:
            return outcome
        wait = pause * (1 + _JITTER * chance())
        if attempt + 1 == tries or now() + wait >= until:
            return outcome
    raise AssertionError("there is at least one try")


def _pause(outcome: Reply | Broken, attempt: int, twice: bool) -> float | None:
    """Seconds after which the same may be sent again; None: never."""
    own = min(_FIRST_S * 2**attempt, _MOST_S)
    if isinstance(outcome, Broken):
        return own if twice or not outcome.sent else None
    after = outcome.headers.get("retry-after")
    if after is None or not (outcome.status == 429 or (outcome.status == 503 and twice)):
        return None
    # A proxy may send a date: then our own pause will do.
    return float(after) if after.isascii() and after.isdecimal() and len(after) < 9 else own
