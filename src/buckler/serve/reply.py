"""Reply: what one coroutine awaits and any thread may give."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Reply(Generic[T]):
    """A concurrent Future and asyncio's own around it in one, at a third of what both cost.

    Made in the loop that awaits it. The first answer counts; who gave up gets none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._given: asyncio.Future[T] = loop.create_future()

    def done(self) -> bool:
        """Whether nobody waits any more: from another thread a little late, which harms nothing."""
        return self._given.done()

    def set_running_or_notify_cancel(self) -> bool:
        return not self._given.done()

    def set_result(self, result: T) -> None:
        self._tell(result, None)

    def set_exception(self, error: BaseException) -> None:
        self._tell(None, error)

    async def by(self, until: float, late: Callable[[], BaseException]) -> T:
        """What is given, or `late` at the loop's time `until`."""
        timer = self._loop.call_at(until, lambda: self._settle(None, late()))
        try:
            return await self._given
        finally:
            timer.cancel()

    def _settle(self, result: T | None, error: BaseException | None) -> None:
        if self._given.done():
            return
        if error is not None:
            self._given.set_exception(error)
        else:
            self._given.set_result(result)  # type: ignore[arg-type]

    def _tell(self, result: T | None, error: BaseException | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle, result, error)
