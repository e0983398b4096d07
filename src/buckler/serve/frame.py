"""What every answer passes on its way out: id, headers, count, log, and no stack trace."""

import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from buckler.serve.observe import Log, Metrics, Trace, log_line
from buckler.serve.refusal import UNFORESEEN, failure

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Frame:
    """ASGI middleware around all routes.

    Args:
        routes: the paths that are counted by name; all others are one, or anyone could fill the
            metrics with names.
        log: None: silent.
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, routes: frozenset[str], log: Log | None
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes
        self._log = log

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
                headers["x-content-type-options"] = "nosniff"
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
