"""Where rows are handed in: within the caller's quota, if the runner can take them; and out, once
what must not be lost is kept."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from buckler.serve.access import Caller
from buckler.serve.arms import Arms
from buckler.serve.inputs import Inputs
from buckler.serve.judged import Judged
from buckler.serve.keep import Keeper
from buckler.serve.quota import Quota
from buckler.serve.refusal import RefusedError, busy
from buckler.serve.suspects import Suspects, suspicious
from buckler.serve.watch import Watch


class Desk:
    """The runners, who may ask them how much, and who keeps what it found.

    Args:
        deadline_s: seconds a request may take.
        max_bytes: of the image files of all requests that are not answered yet.
        keeper: None: nothing is kept.
        watch: is shown every answer before it leaves; None: nobody watches.
        suspects: whose inputs are not accepted, or answered rarely; None: nobody's.
    """

    def __init__(
        self,
        arms: Arms,
        quota: Quota,
        deadline_s: float,
        max_bytes: int,
        keeper: Keeper | None = None,
        watch: Watch | None = None,
        suspects: Suspects | None = None,
    ) -> None:
        self._arms = arms
        self._quota = quota
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes
        self._keeper = keeper
        self._watch = watch
        self._suspects = suspects
        self._held = 0

    def check(self, caller: Caller) -> None:
        """Before a body is read: refuse now what would be refused then.

        Raises: RefusedError 429 or 503.
        """
        self._arms.check(caller.id, 1, 0, time.monotonic() + self._deadline_s)
        self._quota.check(caller.key)

    async def answer(self, caller: Caller, request_id: str, inputs: Inputs, until: float) -> Judged:
        """The answer to inputs that were checked. Raises: RefusedError 429, 503 or 504."""
        with self._holding(inputs.file_bytes):
            self._quota.take(caller.key, len(inputs))
            try:
                rows = await self._caught(caller, inputs)
                judged = await self._arms.answer(caller.id, inputs.x, until)
                if rows is not None:
                    judged = suspicious(judged, rows)
                if self._keeper is not None:
                    judged = await self._keeper.keep(request_id, caller.id, inputs, judged, until)
            except RefusedError as error:
                if error.status in (429, 503):
                    self._quota.give_back(caller.key, len(inputs))
                raise
        if self._watch is not None:
            self._watch.show(caller.id, request_id, inputs.x, judged)
        return judged

    async def _caught(self, caller: Caller, inputs: Inputs) -> NDArray[np.bool_] | None:
        if self._suspects is None:
            return None
        return await self._suspects.rows(caller.id, inputs.x)

    @contextmanager
    def _holding(self, nbytes: int) -> Iterator[None]:
        """A file may be far larger than its row, and stays until the row is kept."""
        if self._held and self._held + nbytes > self._max_bytes:
            raise busy(f"{self._held} bytes of images wait", 1)
        self._held += nbytes
        try:
            yield
        finally:
            self._held -= nbytes
