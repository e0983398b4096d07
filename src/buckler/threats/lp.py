"""Every input within an L∞, L2 or L1 distance of the clean one, and inside the box."""

from dataclasses import dataclass, field, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.threats.goal import Goal
from buckler.threats.projections import l1_size, l2_size
from buckler.threats.rows import parts

Norm = Literal["linf", "l2", "l1"]
_ROUNDING = 1e-5  # of eps: what float32 arithmetic may add to a distance
_SPARSE = 0.05  # share of the values that one L1 step moves (SLIDE, arXiv:1904.13000)


def per_row(value: float | Tensor, x: Tensor) -> Tensor:
    """`value`, one number or (n,), shaped to broadcast against x (n, ...)."""
    tensor = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    return tensor.reshape(-1, *[1] * (x.ndim - 1))


@dataclass(frozen=True)
class LpBall:
    """The attacker may move each input by at most eps in the norm, inside the box.

    Args:
        norm: "linf", "l2" or "l1".
        eps: radius in input units, 8/255 for pixels in [0, 1]; one number or a tensor (n,).
        box: the allowed range of every input value.
        goal: which answers count as a win.
    """

    norm: Norm
    eps: float | Tensor
    box: tuple[float, float] = (0.0, 1.0)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise UsageError(f"norm must be one of {', '.join(get_args(Norm))}. Got {self.norm!r}")
        low, high = self.box
        if not low < high:
            raise UsageError(f"box must be (low, high) with low < high. Got {self.box}")
        eps = torch.as_tensor(self.eps)
        if eps.ndim > 1:
            raise UsageError(
                f"eps must be one number, or a tensor (n,), one a row. Got {tuple(eps.shape)}"
            )
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
        length: Tensor = torch.linalg.vector_norm(delta, ord=1 if self.norm == "l1" else 2, dim=1)
        return length

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: inside the ball (within rounding) and exactly inside the box."""
        low, high = self.box
        flat = x_adv.flatten(1)
        inside = (flat.amin(1) >= low) & (flat.amax(1) <= high)  # NaN passes neither
        eps = torch.as_tensor(self.eps, dtype=x.dtype, device=x.device)
        sizes = x.flatten(1).abs()  # x + delta is rounded to its last bits, in L1 value by value
        sizes = (sizes * (flat != x.flatten(1))).sum(1) if self.norm == "l1" else sizes.amax(1)
        last_bits = 2 * torch.finfo(x.dtype).eps * sizes
        return inside & (self.distance(x, x_adv) <= eps * (1 + _ROUNDING) + last_bits + 1e-7)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """The nearest point of ball ∩ box, exactly."""
        eps = per_row(self.eps, x).expand(len(x), *[1] * (x.ndim - 1))
        out = torch.empty_like(x)
        for part in parts(x, least=1):
            out[part] = self._project(x[part], x_adv[part], eps[part])
        return out

    def _project(self, x: Tensor, x_adv: Tensor, eps: Tensor) -> Tensor:
        low, high = self.box
        if self.norm == "linf":
            least, most = (x - eps).clamp_(min=low), (x + eps).clamp_(max=high)
            return torch.clamp(x_adv, least, most).clamp_(low, high)
        delta, start = (x_adv - x).flatten(1), x.flatten(1)
        side = delta.sign()
        wall = side * ((high - low) / 2) + (high + low) / 2  # the one each value moves to
        room = wall.sub_(start).mul_(side).clamp_(min=0)
        allowed = (l2_size if self.norm == "l2" else l1_size)(delta.abs(), room, eps.flatten(1))
        return allowed.mul_(side).add_(start).clamp_(low, high).reshape(x.shape)

    def steepest(self, grad: Tensor) -> Tensor:
        """The direction of norm 1 along which a linear function with this gradient rises most.

        For L1 that is one value, which soon meets the box: the steepest 20th share the step.
        """
        if self.norm == "linf":
            return grad.sign()
        if self.norm == "l1":
            flat = grad.flatten(1)
            count = max(1, round(_SPARSE * flat.shape[1]))
            top = flat.abs().topk(count, dim=1).indices
            step = torch.zeros_like(flat).scatter(1, top, flat.gather(1, top).sign() / count)
            return step.reshape(grad.shape)
        out = torch.empty_like(grad)
        for part in parts(grad, least=1):
            out[part] = _unit(grad[part])
        return out

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """A point drawn uniformly from the ball, then projected into the box."""
        shape = tuple(x.shape[1:])
        if self.norm == "linf":
            delta = 2 * draws.uniform(seed, rows, step, shape).to(x.dtype) - 1
        elif self.norm == "l1":
            delta = _l1_point(x, seed, rows, step)
        else:
            delta = self.steepest(draws.normal(seed, rows, step, shape).to(x.dtype))
            u = draws.uniform(draws.derive(seed, "radius"), rows, step, (1,)).to(x.dtype)
            delta = delta * per_row(u[:, 0] ** (1 / delta[0].numel()), x) if len(x) else delta
        return self.project(x, x + per_row(self.eps, x) * delta)

    def take(self, idx: Tensor | slice) -> Self:
        """The threat of some of the rows."""
        eps = self.eps[idx] if isinstance(self.eps, Tensor) and self.eps.ndim == 1 else self.eps
        return replace(self, eps=eps, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same threat with a ball that covers the whole box."""
        low, high = self.box
        size = x[0].numel() if len(x) else 1
        corner = {"linf": 1.0, "l2": size**0.5, "l1": float(size)}[self.norm]
        return replace(self, eps=corner * (high - low))

    def to_dict(self) -> dict[str, object]:
        eps = self.eps.tolist() if isinstance(self.eps, Tensor) else self.eps
        return {"kind": "lp", "norm": self.norm, "eps": eps, "goal": self.goal.kind}


def _unit(grad: Tensor) -> Tensor:
    """grad at L2 norm 1; zero stays zero."""
    tiny = torch.finfo(grad.dtype).tiny
    length = torch.linalg.vector_norm(grad.flatten(1), dim=1)
    fine = (length > tiny**0.25) & (length < tiny**-0.25)
    if not bool(fine.all()):  # squares leave the range; other rows stay as they are, to the bit
        largest = grad.flatten(1).abs().amax(1).clamp_min(tiny)
        grad = grad / per_row(torch.where(fine, 1.0, largest), grad)
        length = torch.linalg.vector_norm(grad.flatten(1), dim=1)
    return grad / per_row(length.clamp_min(tiny), grad)


def _l1_point(x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
    """Uniform in the L1 ball of radius 1: exponential gaps between sorted uniforms, with signs."""
    size = x[0].numel() if len(x) else 1
    u = draws.uniform(draws.derive(seed, "gaps"), rows, step, (size + 1,)).to(x.dtype)
    gaps = -torch.log1p(-u)
    signs = torch.where(draws.uniform(seed, rows, step, (size,)) < 0.5, -1.0, 1.0).to(x.dtype)
    return (signs * gaps[:, :size] / gaps.sum(1, keepdim=True)).reshape(x.shape)
