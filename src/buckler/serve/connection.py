"""A connection: uvicorn's, with bounds in time and bytes on a request's head, and on how many
connections there are."""

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 64 << 10
"""Of a head, or of what else is no body (trailers, chunk sizes), give or take one read: the parser
itself has no bound."""


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, which waits for ever for a head that never ends, and keeps all of it."""

    head_s: float
    most: int
    timer: asyncio.TimerHandle | None = None
    unused = 0  # bytes since the last that ended a head or belonged to a body

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        if len(self.connections) > self.most:
            transport.abort()
        else:
            self._arm()

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        self.unused += len(data)
        super().data_received(data)
        if self.unused > HEAD_BYTES:
            self._refuse()
        elif self.cycle is not before or not self._idle():
            self._disarm()
        elif self.timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        self.unused = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self.unused = 0
        super().on_body(body)

    def connection_lost(self, error: Exception | None) -> None:
        self._disarm()
        super().connection_lost(error)

    def _idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self) -> None:
        self._disarm()
        if self._idle():
            self.send_400_response("Request head too long.")
        else:
            self.transport.abort()

    def _arm(self) -> None:
        self.timer = self.loop.call_later(self.head_s, self._give_up)

    def _disarm(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _give_up(self) -> None:
        self.timer = None
        if self._idle():
            self.transport.abort()


def connection(head_s: float, most: int) -> type[Connection]:
    """The protocol with these bounds.

    Args:
        head_s: seconds from a connection's start, or a head's first byte, to its last.
        most: connections at once; one more is closed.
    """
    return type("BoundedConnection", (Connection,), {"head_s": head_s, "most": most})
