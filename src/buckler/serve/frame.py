"""What every answer passes on its way out: id, headers, count, log, and no stack trace."""

import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buckler.serve.observe import Log, Metrics, Trace, log_line
from buckler.serve.refusal import UNFORESEEN, failure

_HEADERS = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}
"""On every answer that does not say otherwise: a page of ours may load what is ours."""
_HTTPS = {**_HEADERS, "strict-transport-security": "max-age=31536000"}
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
        trace = Trace(_request_id(Headers(scope=scope)), path if path in self._routes else "other")
        scope.setdefault("state", {})["trace"] = trace
        started = False

        async def tagged(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                trace.code = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = trace.request_id
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
                if self._closing():
                    headers["connection"] = "close"
            await send(message)

        start = time.perf_counter()
        try:
            await self._app(scope, receive, tagged)
        except Exception as error:
            trace.failure = error
            if not started:
                await failure(500, UNFORESEEN)(scope, receive, tagged)
        finally:
            seconds = time.perf_counter() - start
            self._metrics.count(trace, seconds)
            if self._log is not None:
                self._log(log_line(trace, seconds))


def _request_id(headers: Headers) -> str:
    """The caller's own id if it is short and plain, else a new one."""
    given = headers.get("x-request-id", "")
    return given if _ID.fullmatch(given) else uuid.uuid4().hex
