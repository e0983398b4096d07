"""A connection: uvicorn's, with a time limit for each request's head and a bound on how many."""

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol


def connection(head_s: float, most: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol, which waits for ever for a head that never ends.

    Args:
        head_s: seconds from a connection's start, or a head's first byte, to its last.
        most: connections at once; one more is closed.
    """

    class Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > most:
                transport.abort()
            else:
                self._arm()

        def data_received(self, data: bytes) -> None:
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before or not self._idle():
                self._disarm()
            elif self.timer is None:
                self._arm()

        def connection_lost(self, error: Exception | None) -> None:
            self._disarm()
            super().connection_lost(error)

        def _idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _arm(self) -> None:
            self.timer = self.loop.call_later(head_s, self._give_up)

        def _disarm(self) -> None:
            if self.timer is not None:
                self.timer.cancel()
                self.timer = None

        def _give_up(self) -> None:
            self.timer = None
            if self._idle():
                self.transport.abort()

    return Connection
