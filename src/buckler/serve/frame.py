"""What every answer passes on its way out: id, headers, count, log, and no stack trace.

It takes the place of the framework's own layers: each costs every request some microseconds, and
what they do for errors is done here once.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buckler.serve.head import head_of
from buckler.serve.observe import Log, Metrics, Trace, log_line
from buckler.serve.refusal import answered

Header = tuple[bytes, bytes]
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"vary", b"accept-encoding"),
)
"""On every answer that does not say otherwise: a page of ours may load what is ours."""
_HTTPS = (*_HEADERS, (b"strict-transport-security", b"max-age=31536000"))
_ZIPPED = 1024  # bytes from which an answer is compressed for those who take it so
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Frame:
    """ASGI middleware around all routes.

    Args:
        routes: the paths that are counted by name; all others are one, or anyone could fill the
            metrics with names.
        log: None: silent.
        closing: whether connections should end with their next answer.
        https: tell browsers to come through TLS only.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        routes: frozenset[str],
        log: Log | None,
        closing: Callable[[], bool],
        https: bool,
    ) -> None:
        self._app = app
        self._zipping = GZipMiddleware(app, minimum_size=_ZIPPED, compresslevel=4)
        self._metrics = metrics
        self._routes = routes
        self._log = log
        self._closing = closing
        self._headers = _HTTPS if https else _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"]
        head = head_of(scope)
        trace = Trace(_request_id(head), path if path in self._routes else "other")
        scope.setdefault("state", {})["trace"] = trace
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                trace.code = message["status"]
                message["headers"] = self._tagged(message.get("headers", ()), trace.request_id)
            await send(message)

        start = time.perf_counter()
        try:
            app = self._zipping if "gzip" in head.get("accept-encoding", "") else self._app
            await app(scope, receive, tagged)
        except Exception as error:
            response = answered(error, scope["method"], trace)
            if started:
                trace.failure = error
            else:
                await response(scope, receive, tagged)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.count(trace, seconds)
            if self._log is not None:
                self._log(log_line(trace, seconds))

    def _tagged(self, headers: Iterable[Header], request_id: str) -> list[Header]:
        found = list(headers)
        said = {name for name, _ in found}
        found.append((b"x-request-id", request_id.encode()))
        found += [header for header in self._headers if header[0] not in said]
        if self._closing():
            found.append((b"connection", b"close"))
        return found


def put_around(app: FastAPI, frame: Callable[[ASGIApp], Frame]) -> None:
    """Nothing but the frame lies around the routes of `app`."""
    # Routes of the framework's own kind close what they opened in this one.
    app.middleware_stack = frame(AsyncExitStackMiddleware(app.router))


def _request_id(head: Mapping[str, str]) -> str:
    """The caller's own id if it is short and plain, else a new one."""
    given = head.get("x-request-id", "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex
