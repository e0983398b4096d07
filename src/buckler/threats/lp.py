"""Every input within an L∞ or L2 distance of the clean one, and inside the box."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal

Norm = Literal["linf", "l2"]
_ROUNDING = 1e-5  # of eps: what float32 arithmetic may add to a distance


def per_row(value: float | Tensor, x: Tensor) -> Tensor:
    """`value`, one number or (n,), shaped to broadcast against x (n, ...)."""
    tensor = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return tensor.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class LpBall:
    """The attacker may move each input by at most eps in the norm, inside the box.

    Args:
        norm: "linf" or "l2".
        eps: radius in input units, 8/255 for pixels in [0, 1]; one number or a tensor (n,).
        box: the allowed range of every input value.
        goal: which answers count as a win.
    """

    norm: Norm
    eps: float | Tensor
    box: tuple[float, float] = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        if self.norm not in ("linf", "l2"):
            raise UsageError(f"norm must be 'linf' or 'l2'. Got {self.norm!r}")
        low, high = self.box
        if not low < high:
            raise UsageError(f"box must be (low, high) with low < high. Got {self.box}")
        eps = torch.as_tensor(self.eps)
        largest = float(eps.max()) if eps.numel() else 0.0
        if not bool((torch.isfinite(eps) & (eps > 0)).all()):
            raise UsageError(f"eps must be a finite number > 0, in input units. Got {self.eps}")
        if self.norm == "linf" and largest > high - low:
            hint = f": did you mean {largest:g}/255?" if largest >= 1 and high - low <= 1 else ""
            raise UsageError(
                f"eps must be at most the width of the box, in input units. "
                f"Got {largest:g} with box ({low:g}, {high:g}){hint}"
            )

    def __str__(self) -> str:
        eps = "per row" if isinstance(self.eps, Tensor) else f"{self.eps:.4g}"
        return f"{self.norm} eps {eps}"

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) distance of each row in the norm, input units."""
        delta = (x_adv - x).flatten(1)
        if self.norm == "linf":
            return delta.abs().amax(1)
        length: Tensor = torch.linalg.vector_norm(delta, dim=1)
        return length

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: inside the ball (within rounding) and exactly inside the box."""
        low, high = self.box
        flat = x_adv.flatten(1)
        inside = (torch.isfinite(flat) & (flat >= low) & (flat <= high)).all(1)
        eps = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device)
        last_bits = 2 * torch.finfo(x.dtype).eps * x.flatten(1).abs().amax(1)  # of x + delta
        return inside & (self.distance(x, x_adv) <= eps * (1 + _ROUNDING) + last_bits + 1e-7)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The nearest point of ball ∩ box, exactly."""
        low, high = self.box
        eps = per_row(self.eps, x)
        if self.norm == "linf":
            return torch.minimum(torch.maximum(x_adv, x - eps), x + eps).clamp(low, high)
        return _project_l2(x, x_adv, eps, low, high)

    def steepest(self, grad: Tensor) -> Tensor:
        """The direction of norm 1 along which a linear function with this gradient rises most."""
        if self.norm == "linf":
            return grad.sign()
        # Scaled first: the squares of a saturated loss's gradient underflow.
        tiny = torch.finfo(grad.dtype).tiny
        grad = grad / per_row(grad.flatten(1).abs().amax(1), grad).clamp_min(tiny)
        length = torch.linalg.vector_norm(grad.flatten(1), dim=1)
        return grad / per_row(length.clamp_min(tiny), grad)

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """A point drawn uniformly from the ball, then projected into the box."""
        shape = tuple(x.shape[1:])
        if self.norm == "linf":
            delta = 2 * draws.uniform(seed, rows, step, shape).to(x.dtype) - 1
        else:
            delta = self.steepest(draws.normal(seed, rows, step, shape).to(x.dtype))
            u = draws.uniform(draws.derive(seed, "radius"), rows, step, (1,)).to(x.dtype)
            delta = delta * per_row(u[:, 0] ** (1 / delta[0].numel()), x) if len(x) else delta
        return self.project(x, x + per_row(self.eps, x) * delta)

    def take(self, idx: Tensor) -> Self:
        """The threat of some of the rows."""
        eps = self.eps[idx] if isinstance(self.eps, Tensor) and self.eps.ndim == 1 else self.eps
        return replace(self, eps=eps, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with a ball that covers the whole box."""
        low, high = self.box
        width = high - low
        size = x[0].numel() if len(x) else 1
        return replace(self, eps=width if self.norm == "linf" else width * size**0.5)

    def to_dict(self) -> dict[str, object]:
        eps = self.eps.tolist() if isinstance(self.eps, Tensor) else self.eps
        return {"kind": "lp", "norm": self.norm, "eps": eps, "goal": self.goal.kind}


def _project_l2(x: Tensor, x_adv: Tensor, eps: Tensor, low: float, high: float) -> Tensor:
    """argmin |z − x_adv| over |z − x| ≤ eps and low ≤ z ≤ high, for x inside the box.

    By the KKT conditions z = clip(x + s·delta) with one s in [0, 1] per row; |z − x|² grows with s
    and is quadratic between the points where a value reaches the box, so s follows from one sort.
    """
    delta = (x_adv - x).flatten(1)
    start = x.flatten(1)
    room = torch.where(delta > 0, high - start, start - low).clamp_min(0)
    size = delta.abs()
    at_wall = torch.where(size > 0, room / size.clamp_min(1e-30), torch.inf)  # the s that meets it
    order = at_wall.argsort(1)
    wall = at_wall.gather(1, order)
    room2 = room.gather(1, order).square()
    size2 = size.gather(1, order).square()
    # With the first i values at the wall: |z − x|² = fixed[i] + s² · free[i].
    zero = torch.zeros_like(size2[:, :1])
    fixed = torch.cat([zero, room2.cumsum(1)[:, :-1]], 1)
    free = size2.flip(1).cumsum(1).flip(1)
    radius2 = eps.flatten(1).square()
    reached = fixed + wall.square() * free >= radius2
    first = torch.where(reached.any(1), reached.int().argmax(1), size.shape[1] - 1)[:, None]
    left = (radius2 - fixed.gather(1, first)).clamp_min(0)
    s = (left / free.gather(1, first).clamp_min(1e-30)).sqrt()
    s = torch.where(reached.any(1, keepdim=True), s, torch.ones_like(s)).clamp(0, 1)
    return (start + s * delta).clamp(low, high).reshape(x.shape)
