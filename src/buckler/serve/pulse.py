"""GET /events: what is going on now, sent whenever it changes, to a bounded number of pages."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from fastapi import Response
from fastapi.responses import StreamingResponse

from buckler.errors import BucklerError

MOST: Final = 32
_EVERY_S: Final = 1.0
_QUIET_S: Final = 15.0
_LASTS_S: Final = 300.0  # then a page asks again, and has to be logged in still


class Pulse:
    """One look serves all pages.

    Args:
        read: what is going on, JSON.
        closing: the gateway stops: streams end.
    """

    def __init__(
        self, read: Callable[[], Awaitable[Mapping[str, Any]]], closing: Callable[[], bool]
    ) -> None:
        self._read, self._closing = read, closing
        self._lock = asyncio.Lock()
        self._last: tuple[float, bytes] = (float("-inf"), b"")
        self.open = 0

    def answer(self) -> Response:
        """A stream; with MOST of them open, one that ends at once and asks to come later."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(self._events(), 200, headers, "text/event-stream")

    async def _events(self) -> AsyncIterator[bytes]:
        if self.open >= MOST:
            yield b"retry: 60000\n\n"
            return
        self.open += 1
        try:
            yield b"retry: 3000\n\n"
            until, last, said = time.monotonic() + _LASTS_S, b"", time.monotonic()
            while time.monotonic() < until and not self._closing():
                found = await self._now()
                if found != last:
                    last, said = found, time.monotonic()
                    yield b"event: now\ndata: " + found + b"\n\n"
                elif time.monotonic() - said >= _QUIET_S:
                    said = time.monotonic()
                    yield b": still here\n\n"
                await asyncio.sleep(_EVERY_S)
        finally:
            self.open -= 1

    async def _now(self) -> bytes:
        async with self._lock:
            at, found = self._last
            if time.monotonic() - at >= _EVERY_S:
                try:
                    found = orjson.dumps(await self._read())
                except BucklerError:
                    found = orjson.dumps({"health": "the store cannot be used now"})
                self._last = (time.monotonic(), found)
            return found
