"""Where rows are handed in: within the caller's quota, if the runner can take them."""

import time
from dataclasses import dataclass

from torch import Tensor

from buckler.serve.access import Caller
from buckler.serve.judged import Judged
from buckler.serve.quota import Quota
from buckler.serve.refusal import RefusedError
from buckler.serve.runner import Runner


@dataclass(frozen=True)
class Desk:
    """The runner and who may ask it how much.

    Args:
        deadline_s: seconds a request may take.
    """

    runner: Runner[Judged]
    quota: Quota
    deadline_s: float

    def check(self, caller: Caller) -> None:
        """Before a body is read: refuse now what would be refused then.

        Raises: RefusedError 429 or 503.
        """
        self.runner.check(1, 0, time.monotonic() + self.deadline_s)
        self.quota.check(caller.key)

    async def answer(self, caller: Caller, x: Tensor, until: float) -> Judged:
        """The answer to x (n, ...), which was checked. Raises: RefusedError 429, 503 or 504."""
        self.quota.take(caller.key, len(x))
        try:
            return await self.runner.answer(x, until)
        except RefusedError as error:
            if error.status in (429, 503):
                self.quota.give_back(caller.key, len(x))
            raise
