"""A classifier that counts what it is asked, and can refuse to answer more."""

import threading

from torch import Tensor

from buckler.errors import BudgetError
from buckler.protocols import Classifier


class Counted:
    """The same classifier, with exact counts of rows, from several threads too.

    forwards: rows that were classified; backwards: rows whose gradient was taken.

    Args:
        limit: rows it may be asked for in all; a call that would pass it is not sent on.

    Raises (on call): BudgetError.
    """

    def __init__(self, model: Classifier, limit: int | None = None) -> None:
        self.model, self.limit = model, limit
        self.forwards = self.backwards = 0
        self._lock = threading.Lock()

    def __call__(self, x: Tensor) -> Tensor:
        with self._lock:
            if self.limit is not None and self.forwards + len(x) > self.limit:
                raise BudgetError(
                    f"the budget of {self.limit} queries is spent: {self.forwards} were asked, and "
                    f"{len(x)} more would pass it"
                )
            self.forwards += len(x)
        logits = self.model(x)
        if logits.requires_grad:
            logits.register_hook(self._came_back)
        return logits

    def _came_back(self, grad: Tensor) -> None:
        with self._lock:
            self.backwards += len(grad)
