"""What all attacks lean on: honest gradients, and the set of rows that are not won yet."""

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.losses import Loss
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal
from buckler.threats.rows import parts

_FORWARD = 256  # rows of a pass that keeps nothing for a gradient, at least
_OUTSIDE = 1e-4  # of the box's width: what rounding may have put outside


def logits_of(model: Classifier, x: Tensor) -> Tensor:
    """The model's logits, (n, k), without a graph."""
    with torch.no_grad():
        if not len(x):
            return checked(model(x), x)
        found = [checked(model(x[part]), x[part]) for part in parts(x, least=_FORWARD)]
    return found[0] if len(found) == 1 else torch.cat(found)


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
    model: Classifier, x: Tensor, y: Tensor, goal: Goal, loss: Loss
) -> tuple[Tensor, Tensor]:
    """d loss/d x for each row, and the logits it was taken at.

    Raises: UsageError if no gradient reaches x, or it is no number.
    """
    found = [
        _gradient(model, x[part], y[part], goal.take(part), loss)
        for part in (parts(x) if len(x) else [slice(0, 0)])
    ]
    if len(found) == 1:
        return found[0]
    return torch.cat([grad for grad, _ in found]), torch.cat([logits for _, logits in found])


def _gradient(
    model: Classifier, x: Tensor, y: Tensor, goal: Goal, loss: Loss
) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        logits = checked(model(x), x)
        if not logits.requires_grad:
            raise UsageError(
                "this attack needs gradients, and none reaches the input of this model: "
                "use a black-box attack (Square, OnePixel), or give the model's own torch module"
            )
        grad = torch.autograd.grad(loss(logits, y, goal).sum(), x)[0]
    if grad.numel() and not all(map(torch.isfinite, torch.aminmax(grad))):
        raise UsageError(
            "the model's gradient is NaN or infinite: an attack that steps along it tells nothing. "
            "Mend the model, or use a black-box attack (Square, OnePixel)"
        )
    return grad, logits.detach()


def checked_rows(
    x: Tensor, y: Tensor, threat: Threat, rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x without a graph, and the rows' ids (0 to n−1 where there are none).

    Raises: UsageError for lengths that differ, for x or y of another kind of number, and for x
        outside the threat's box: its points would be, or differ from x by more than the threat.
    """
    rows = torch.arange(len(x), device=x.device) if rows is None else rows
    if not len(x) == len(y) == len(rows):
        raise UsageError(
            f"x, y and rows must have one entry a row. Got {len(x)}, {len(y)}, {len(rows)}"
        )
    if x.dtype not in (torch.float32, torch.float64):
        raise UsageError(
            "x must be float32 or float64, for small steps are lost in others. "
            f"Got {x.dtype}: convert x, and let the model cast its input"
        )
    if y.dtype != torch.int64 or rows.dtype != torch.int64:
        raise UsageError(f"y and rows must be int64 (.long()). Got {y.dtype} and {rows.dtype}")
    low, high = threat.box
    if x.numel():
        least, most = (float(end) for end in x.detach().aminmax())
        slack = _OUTSIDE * (high - low)
        if not (low - slack <= least and most <= high + slack):
            raise UsageError(
                f"x must lie inside the threat's box ({low:g}, {high:g}). Got values from "
                f"{least:g} to {most:g}: give the threat the box of your data"
            )
    return x.detach(), rows


def kept(stay: Tensor, *tensors: Tensor) -> list[Tensor]:
    """The rows of each tensor where `stay` is true; much cheaper than indexing with a mask."""
    where = stay.nonzero()[:, 0]
    return [tensor.index_select(0, where) for tensor in tensors]


class ActiveSet:
    """The rows still to be won, and the best point seen of every row.

    Won rows leave: `x`, `y`, `threat` and `rows` are those of the active rows, sliced together.
    `index` says where each active row stands among all; `best` and `best_objective` are of all.
    """

    def __init__(self, x: Tensor, y: Tensor, threat: Threat, rows: Tensor | None) -> None:
        x, rows = checked_rows(x, y, threat, rows)
        self.x, self.y, self.threat, self.rows = x, y, threat, rows
        self.best = x.clone(memory_format=torch.contiguous_format)
        self.best_objective = torch.full((len(x),), -torch.inf, dtype=x.dtype, device=x.device)
        self.index = torch.arange(len(x), device=x.device)
        self._all = (x, y, threat, rows)

    def __len__(self) -> int:
        return len(self.x)

    def judge(self, candidates: Tensor, logits: Tensor, drop: bool = True) -> Tensor:
        """Record the best point of each active row; drop the rows it wins, unless told not to.

        Returns: (active before,) bool, the rows that stay: slice your own state with it.
        """
        objective = self.threat.goal.objective(logits, self.y).to(self.best_objective.dtype)
        self.record(candidates, objective)
        stay = (objective <= 0) if drop else torch.ones_like(objective, dtype=torch.bool)
        if not bool(stay.all()):
            self.keep(stay)
        return stay

    def record(self, candidates: Tensor, objective: Tensor) -> None:
        """Keep the candidates (active, ...) that do better than the best of their rows."""
        better = (objective > self.best_objective[self.index]).nonzero()[:, 0]
        at = self.index[better]
        self.best.index_copy_(0, at, candidates.detach().index_select(0, better))
        self.best_objective[at] = objective[better]

    def keep(self, stay: Tensor) -> None:
        """Slice everything to the rows where `stay` (active,) is true."""
        where = stay.nonzero()[:, 0]
        self.x, self.y = self.x.index_select(0, where), self.y[where]
        self.rows, self.index = self.rows[where], self.index[where]
        self.threat = self.threat.take(where)

    def repeated(self, times: int) -> "ActiveSet":
        """A set of its own that holds the active rows `times` over, one after another."""
        lanes = torch.arange(len(self), device=self.x.device).repeat(times)
        threat = self.threat.take(lanes)
        return ActiveSet(self.x[lanes], self.y[lanes], threat, self.rows[lanes])

    def best_of(self, times: int) -> tuple[Tensor, Tensor]:
        """The best point and objective of each row of a set that was `repeated`."""
        objective, lane = self.best_objective.reshape(times, -1).max(0)
        points = self.best.unflatten(0, (times, -1))
        return points[lane, torch.arange(len(lane), device=lane.device)], objective

    def reopen(self) -> None:
        """Make every row active again that no point has won yet: the next restart's rows."""
        lost = (self.best_objective <= 0).nonzero()[:, 0]
        x, y, threat, rows = self._all
        self.x, self.y, self.rows = x[lost], y[lost], rows[lost]
        self.threat, self.index = threat.take(lost), lost
