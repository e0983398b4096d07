"""What all attacks lean on: honest gradients, and the set of rows that are not won yet."""

from collections.abc import Callable

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat


def logits_of(model: Classifier, x: Tensor) -> Tensor:
    """The model's logits, (n, k), without a graph."""
    with torch.no_grad():
        return checked(model(x), x)


def checked(logits: Tensor, x: Tensor) -> Tensor:
    """Raises: UsageError if these are not finite logits (n, k), k ≥ 2."""
    if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
        raise UsageError(
            f"a classifier must return logits of shape (n, k), k >= 2. "
            f"Got {tuple(logits.shape)} for {len(x)} rows"
        )
    if not bool(torch.isfinite(logits).all()):
        raise UsageError(
            "the model returned logits that are NaN or infinite: an attack cannot climb them, "
            "and a success rate over them means nothing. Mend the model first"
        )
    return logits


def gradient(
    model: Classifier, x: Tensor, loss: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor]:
    """d loss/d x for each row, and the logits it was taken at.

    Args:
        loss: logits (n, k) → (n,).

    Raises: UsageError if no gradient reaches x.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = checked(model(x), x)
        if not logits.requires_grad:
            raise UsageError(
                "this attack needs gradients, and none reaches the input of this model: "
                "use a black-box attack (Square, OnePixel), or give the model's own torch module"
            )
        grad = torch.autograd.grad(loss(logits).sum(), x)[0]
    if not bool(torch.isfinite(grad).all()):
        raise UsageError(
            "the model's gradient is NaN or infinite: an attack that steps along it tells nothing. "
            "Mend the model, or use a black-box attack (Square, OnePixel)"
        )
    return grad, logits.detach()


class ActiveSet:
    """The rows still to be won, and the best point seen of every row.

    Won rows leave: `x`, `y`, `threat` and `rows` are those of the active rows, sliced together.
    `best` and `best_objective` are of all rows.
    """

    def __init__(self, x: Tensor, y: Tensor, threat: Threat, rows: Tensor | None) -> None:
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        if not len(x) == len(y) == len(rows):
            raise UsageError(
                f"x, y and rows must have one entry a row. Got {len(x)}, {len(y)}, {len(rows)}"
            )
        self.x, self.y, self.threat, self.rows = x, y, threat, rows
        self.best = x.clone()
        self.best_objective = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self._index = torch.arange(len(x), device=x.device)

    def __len__(self) -> int:
        return len(self.x)

    def judge(self, candidates: Tensor, logits: Tensor, drop: bool = True) -> Tensor:
        """Record the best point of each active row; drop the rows it wins, unless told not to.

        Returns: (active before,) bool, the rows that stay: slice your own state with it.
        """
        objective = self.threat.goal.objective(logits, self.y).to(self.best_objective.dtype)
        better = objective > self.best_objective[self._index]
        at = self._index[better]
        self.best[at] = candidates[better]
        self.best_objective[at] = objective[better]
        stay = (objective <= 0) if drop else torch.ones_like(objective, dtype=torch.bool)
        if not bool(stay.all()):
            self.keep(stay)
        return stay

    def keep(self, stay: Tensor) -> None:
        """Slice everything to the rows where `stay` (active,) is true."""
        where = stay.nonzero()[:, 0]
        self.x, self.y, self.rows = self.x[where], self.y[where], self.rows[where]
        self.threat = self.threat.take(where)
        self._index = self._index[where]

    def reopen(self, x: Tensor, y: Tensor, threat: Threat, rows: Tensor | None) -> None:
        """Make every row active again that no attack point has won yet."""
        lost = (self.best_objective <= 0).nonzero()[:, 0]
        rows = torch.arange(len(x), device=x.device) if rows is None else rows
        self.x, self.y, self.rows = x[lost], y[lost], rows[lost]
        self.threat, self._index = threat.take(lost), lost
