"""What comes back over HTTP: a value, or an error with the gateway's own sentence."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from buckler.errors import BucklerError, ConflictError, DataError, PolicyError, UsageError

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of one answer."""
_KINDS: Final[dict[int, type[BucklerError]]] = {
    400: DataError,
    401: PolicyError,
    403: PolicyError,
    404: UsageError,
    405: UsageError,
    409: ConflictError,
    413: DataError,
    415: DataError,
    422: DataError,
}
T = TypeVar("T")


class GatewayError(BucklerError):
    """No answer: the gateway is busy, stopping, out of reach or broken.

    Args:
        status: the last one; 0 if nothing came back.
        request_id: what the gateway's log knows the request by.
    """

    exit_code = 3

    def __init__(self, sentence: str, status: int = 0, request_id: str = "") -> None:
        super().__init__(sentence)
        self.status = status
        self.request_id = request_id


@dataclass(frozen=True)
class Reply:
    """Any status; the names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Broken:
    """Nothing came back, or half of it.

    sent: whether the gateway may have had the request.
    """

    why: str
    sent: bool = True


def settle(outcome: Reply | Broken, read: Callable[[Reply], T], request_id: str, url: str) -> T:
    """What `read` gives of a good reply.

    Raises: DataError for inputs it refuses, PolicyError for a key, ConflictError if somebody was
        first, UsageError for what is not there, GatewayError for all else.
    """
    if isinstance(outcome, Broken):
        raise GatewayError(f"{url} gave no answer: {outcome.why}", 0, request_id)
    if not 200 <= outcome.status < 300:
        sentence = _sentence(outcome, url)
        kind = _KINDS.get(outcome.status)
        raise GatewayError(sentence, outcome.status, request_id) if kind is None else kind(sentence)
    try:
        return read(outcome)
    except (DataError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise GatewayError(
            f"{url} answered what a Buckler gateway of this version does not "
            f"({type(error).__name__}: {str(error)[:160]}): is it one?",
            outcome.status,
            request_id,
        ) from None


def as_object(reply: Reply) -> dict[str, Any]:
    """The JSON object of a reply. Raises: ValueError."""
    found = json.loads(reply.body)
    if not isinstance(found, dict):
        raise ValueError(f"its JSON must be an object. Got {type(found).__name__}")
    return found


def _sentence(reply: Reply, url: str) -> str:
    try:
        found = as_object(reply)["error"]
        if isinstance(found, str) and found:
            return found
    except (ValueError, KeyError, RecursionError):
        pass
    text = reply.body[:120].decode("utf-8", "replace").strip()
    return f"{url} answered with status {reply.status} and no sentence of a gateway: {text!r}"
