"""RefusedError: a request that gets no verdict, and the sentence its caller reads."""

import math
from collections.abc import Mapping
from typing import Protocol

import orjson
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from buckler.errors import BucklerError, DataError

UNFORESEEN = "the gateway failed on this request: its log has the reason under this request id"
_NOT_HERE = (
    "there is nothing at this path: inputs go to POST /v1/classify or to the V2 protocol at /v2, "
    "health is at GET /v2/health/ready, numbers at GET /metrics, all is written down at GET /docs"
)
_LONGEST_RETRY_S = 60
_REASONS = {
    401: "key",
    403: "role",
    408: "slow",
    413: "size",
    429: "full",
    500: "failure",
    503: "not_ready",
    504: "deadline",
}
NOT_READY = {
    "starting": "it is starting",
    "stopping": "it is stopping",
    "hung": "the guard hung",
    "dead": "the thread that judges died",
    "restarting": "the guard hung or died and is being restarted",
    "broken": "the guard fails on a blank input",
    "store": "its store cannot be used",
    "behind": "it cannot load the bundle that is live",
}
"""What a gateway that is not ready says of itself."""


class Trace(Protocol):
    """What is noted of a request that got no verdict."""

    refusal: str
    failure: BaseException | None


class RefusedError(BucklerError):
    """No verdict: the HTTP status, one sentence, and when to come again.

    Args:
        reason: one word for the metrics, where the status alone does not tell.
    """

    def __init__(
        self,
        status: int,
        sentence: str,
        retry_after_s: int | None = None,
        *,
        reason: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.reason = reason or _REASONS.get(status, "input")
        self.headers = dict(headers or {})
        if retry_after_s is not None:
            self.headers["retry-after"] = str(retry_after_s)


def busy(with_what: str, seconds: float, reason: str = "full") -> RefusedError:
    """429: come again in about `seconds`."""
    wait = min(max(math.ceil(min(seconds, _LONGEST_RETRY_S)), 1), _LONGEST_RETRY_S)
    sentence = f"the gateway is busy, {with_what}: try again in {wait} s"
    return RefusedError(429, sentence, wait, reason=reason)


def late() -> RefusedError:
    return RefusedError(504, "the guard did not answer in time: try again", 1)


def not_now(why: str) -> RefusedError:
    """503; `why` is one of NOT_READY."""
    return RefusedError(503, f"the gateway does not judge now: {NOT_READY[why]}", 1)


def could_not_judge(error: BaseException) -> RefusedError:
    """500, whose cause is for the log."""
    refusal = RefusedError(
        500, "the guard could not judge this input: nothing was accepted, the log has the reason"
    )
    refusal.__cause__ = error
    return refusal


def cannot_keep(error: BaseException) -> RefusedError:
    """503, whose cause is for the log."""
    refusal = RefusedError(
        503,
        "an input must be reviewed and cannot be kept now, so it is not answered: try again",
        1,
        reason="store",
    )
    refusal.__cause__ = error
    return refusal


def reply(status: int, value: object, headers: Mapping[str, str] | None = None) -> Response:
    """`value` as JSON."""
    return Response(orjson.dumps(value), status, headers, "application/json")


def failure(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """The one form errors have, whatever the status."""
    return reply(status, {"error": sentence}, headers)


def answered(error: Exception, method: str, trace: Trace) -> Response:
    """What an error of a route leaves as: {"error": sentence}, the framework's own too. Of one that
    nobody foresaw nothing is told."""
    if isinstance(error, RefusedError):
        # What made the guard fail is for the log, not for the caller.
        trace.failure, trace.refusal = error.__cause__, error.reason
        return failure(error.status, str(error), error.headers)
    if isinstance(error, DataError | RequestValidationError):
        trace.refusal = "input"
        return failure(400, str(error))
    if isinstance(error, ClientDisconnect):
        return failure(400, "the body ended before it was whole")
    if isinstance(error, HTTPException):
        return _framework(error, method)
    trace.failure = error
    return failure(500, UNFORESEEN)


def _framework(error: HTTPException, method: str) -> Response:
    if error.status_code == 404:
        return failure(404, _NOT_HERE)
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        sentence = f"{method} is not possible at this path: use {allowed}"
        return failure(405, sentence, error.headers)
    return failure(error.status_code, str(error.detail), error.headers)
