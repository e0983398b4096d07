"""HopSkipJump: along the border between two answers, from answers alone."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import checked_rows, logits_of
from buckler.attacks.estimate import signs
from buckler.attacks.square_windows import as_image
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats import LpBall
from buckler.threats.lp import per_row

_TOGETHER = 64  # probes of a row that are made at once
_VALUES = 1 << 19  # values of probes in one forward
_HALVINGS = 12  # of a step, before the next estimate is tried instead
_SPARE = 10  # queries that an estimate leaves for the step and the way back


@dataclass(frozen=True)
class HopSkipJump:
    """The nearest input, L∞ or L2, with another answer; uses which answers win, and no scores.

    Chen, Jordan and Wainwright 2020 (arXiv:1904.02144): on the border, estimate its normal from the
    answers around, step along it, and go back to the border straight towards x; row by row.
    Deviations: probes are random signs, in L2 too; a row stays at its nearest winning point where a
    step leads no nearer, and leaves the way back where it cannot end nearer; random starts are
    pixels, blocks and corners of the box in turn. A row that nothing wins comes back as the best
    point asked (the only use of scores).

    Args:
        queries: forward passes a row, x itself included.
        probes: answers for the first estimate; round t asks √t times as many.
        gamma: scales the paper's precision, 1 / d^1.5 of the distance (L∞: 1 / d²).
        starts: (m, ...) inputs that may win; each row asks the nearest first, then random ones.
        within: stop a row at its first win inside the threat's ball, and return no point outside.
    """

    queries: int = 1000
    probes: int = 100
    gamma: float = 1.0
    starts: Tensor | None = field(default=None, repr=False, compare=False)
    within: bool = False
    name: str = "HopSkipJump"

    def __post_init__(self) -> None:
        if self.queries < 1 or self.probes < 1 or not self.gamma > 0:
            raise UsageError(
                "HopSkipJump needs queries >= 1, probes >= 1 and gamma > 0. Got "
                f"queries={self.queries}, probes={self.probes}, gamma={self.gamma}"
            )

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        if not isinstance(threat, LpBall) or threat.norm == "l1":
            raise UsageError(f"HopSkipJump needs an L-infinity or L2 ball. Got {threat}")
        x, rows = checked_rows(x, y, threat, rows)
        found = _Found(model, x, y, threat, rows, self.queries, self.within)
        if not len(x):
            return found.answer()
        found.ask(torch.arange(len(x), device=x.device), x)
        self._first(found, seed)
        step = 0
        while len(idx := found.open()):
            step += 1
            normal = self._normal(found, idx, step, seed)
            far, idx = self._step(found, idx, normal, step)
            self._back(found, idx, far)
        return found.answer()

    def _first(self, found: "_Found", seed: int) -> None:
        """Ask starts, then random inputs, until each row has one that wins; go to the border."""
        starts, asked, order = self.starts, 0, None
        if starts is not None and len(starts):
            if starts.shape[1:] != found.x.shape[1:]:
                raise UsageError(
                    f"starts must be inputs of x's shape {tuple(found.x.shape[1:])}. "
                    f"Got {tuple(starts.shape[1:])}"
                )
            starts = starts.to(found.x).clamp(*found.threat.box)
            order = torch.cdist(found.x.flatten(1), starts.flatten(1)).argsort(dim=1, stable=True)
        every = torch.arange(len(found.x), device=found.x.device)
        far, new = found.x.clone(), torch.zeros_like(every, dtype=torch.bool)
        while len(idx := every[torch.isinf(found.distance) & (found.left > 0)]):
            if starts is not None and order is not None and asked < order.shape[1]:
                points = starts[order[idx, asked]]
            else:
                points = _random(found, idx, asked, draws.derive(seed, "first"))
            won = found.ask(idx, points)
            far[idx[won]], new[idx[won]] = points[won], True
            asked += 1
        idx = found.open()
        self._back(found, idx := idx[new[idx]], far[idx])

    def _normal(self, found: "_Found", idx: Tensor, step: int, seed: int) -> Tensor:
        """(m, d) the direction in which winning answers lie, of L2 norm 1, at the nearest point."""
        size = found.x[0].numel()
        width = found.distance[idx] * (self.gamma / size)
        if step == 1:
            width = torch.full_like(width, 0.1 * (found.threat.box[1] - found.threat.box[0]))
        planned = int(self.probes * math.sqrt(step))
        count = (found.left[idx] - _SPARE).clamp(1, planned)
        seed, sums = draws.derive(seed, "probes", step), []
        for part in torch.arange(len(idx), device=idx.device).split(
            max(1, _VALUES // (size * min(_TOGETHER, planned)))
        ):
            sums.append(_around(found, idx[part], width[part], count[part], seed))
        with_sign, alone, balance = (torch.cat(each) for each in zip(*sums, strict=True))
        mean = (balance / count)[:, None]
        normal = torch.where(mean.abs() == 1, with_sign, with_sign - mean * alone)
        length = torch.linalg.vector_norm(normal, dim=1, keepdim=True)
        unit: Tensor = normal / length.clamp_min(torch.finfo(normal.dtype).tiny)
        return unit

    def _step(
        self, found: "_Found", idx: Tensor, normal: Tensor, step: int
    ) -> tuple[Tensor, Tensor]:
        """Winning points along the normal, the step halved until one is found, and their rows."""
        move = normal.sign() if found.threat.norm == "linf" else normal
        size = found.distance[idx] / math.sqrt(step)
        start, far = found.nearest[idx].flatten(1), found.nearest[idx]
        won = torch.zeros_like(idx, dtype=torch.bool)
        for _ in range(_HALVINGS):
            trying = (~won & (found.left[idx] > 0)).nonzero()[:, 0]
            if not len(trying):
                break
            points = torch.addcmul(start[trying], size[trying, None], move[trying])
            points = points.clamp_(*found.threat.box).reshape(-1, *far.shape[1:])
            now = found.ask(idx[trying], points)
            won[trying] = now
            far[trying] = points
            size[trying] = torch.where(now, size[trying], size[trying] / 2)
        return far[won], idx[won]

    def _back(self, found: "_Found", idx: Tensor, far: Tensor) -> None:
        """Bisection between x and winning points far (m, ...), until the border is near enough."""
        d = far[0].numel() if len(far) else 1
        close = self.gamma / (d * d if found.threat.norm == "linf" else d**1.5)
        x = found.x[idx]
        length = found.threat.distance(x, far)
        low, high = torch.zeros_like(length), torch.ones_like(length)
        while True:
            useful = (high - low > close) & (low * length < found.distance[idx])
            middle = (low + high) / 2
            useful &= (middle > low) & (middle < high) & (found.left[idx] > 0)
            at = (useful & found.unfinished(idx)).nonzero()[:, 0]
            if not len(at):
                return
            points = _between(x[at], far[at], middle[at], length[at], found.threat)
            won = found.ask(idx[at], points)
            high[at] = torch.where(won, middle[at], high[at])
            low[at] = torch.where(won, low[at], middle[at])


class _Found:
    """What has been asked for each row: how many queries are left, and the nearest win."""

    def __init__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: LpBall,
        rows: Tensor,
        queries: int,
        within: bool,
    ) -> None:
        self.model, self.x, self.y, self.threat, self.rows = model, x, y, threat, rows
        self.within = within
        self.left = torch.full((len(x),), queries, dtype=torch.int64, device=x.device)
        self.nearest = x.clone(memory_format=torch.contiguous_format)
        self.distance = torch.full((len(x),), torch.inf, dtype=x.dtype, device=x.device)
        self._best, self._top = self.nearest.clone(), torch.full_like(self.distance, -torch.inf)

    def won(self, idx: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Which points win, and their objectives; idx says whose each is, several a row allowed."""
        logits = logits_of(self.model, points)
        objective = self.threat.goal.take(idx).objective(logits, self.y[idx])
        return objective > 0, objective.to(self.x.dtype)

    def ask(self, idx: Tensor, points: Tensor) -> Tensor:
        """(m,) which rows' points win; one query of each row, remembered if it is the nearest."""
        won, objective = self.won(idx, points)
        self.left[idx] -= 1
        far = self.threat.distance(self.x[idx], points)
        nearer = won & (far < self.distance[idx])
        self.nearest[idx[nearer]], self.distance[idx[nearer]] = points[nearer], far[nearer]
        better = ~won & (objective > self._top[idx])
        if self.within:
            better &= self.threat.take(idx).contains(self.x[idx], points)
        self._best[idx[better]], self._top[idx[better]] = points[better], objective[better]
        return won

    def unfinished(self, idx: Tensor) -> Tensor:
        """(m,) rows for which a nearer win is still wanted."""
        if not self.within:
            return self.distance[idx] > 0
        return ~self._inside()[idx]

    def open(self) -> Tensor:
        """The rows to go on with: won somewhere, queries left."""
        every = torch.arange(len(self.x), device=self.x.device)
        return every[torch.isfinite(self.distance) & (self.left > 0) & self.unfinished(every)]

    def answer(self) -> Tensor:
        """(n, ...) the nearest win of each row, else the best point asked."""
        good = self._inside() if self.within else torch.isfinite(self.distance)
        return torch.where(per_row(good, self.x).bool(), self.nearest, self._best)

    def _inside(self) -> Tensor:
        inside = self.threat.contains(self.x, self.nearest)
        return inside & torch.isfinite(self.distance)


def _around(
    found: _Found, idx: Tensor, width: Tensor, count: Tensor, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ ±direction, Σ direction (m, d) and Σ ±1 (m,) over `count` probes of each row."""
    low, high = found.threat.box
    start = found.nearest[idx].flatten(1)
    d = start.shape[1]
    sums = start.new_zeros(len(idx), 2, d)
    balance = torch.zeros_like(width)
    for block in range(0, int(count.max()), _TOGETHER):
        size = min(_TOGETHER, int(count.max()) - block)
        u = signs(seed, found.rows[idx], block, (size, d)).to(start)
        points = torch.addcmul(start[:, None], u, (width / math.sqrt(d))[:, None, None])
        points = points.clamp_(low, high)
        asked = torch.arange(block, block + size, device=idx.device) < count[:, None]
        owner = idx[:, None].expand(-1, size)[asked]
        won, _ = found.won(owner, points[asked].reshape(-1, *found.x.shape[1:]))
        found.left[idx] -= asked.sum(1)
        sign = torch.zeros_like(u[..., 0]).masked_scatter(asked, 2 * won.to(u.dtype) - 1)
        moved = points.sub_(start[:, None]).div_(width[:, None, None])
        sums += torch.bmm(torch.stack([sign, asked.to(u.dtype)], 1), moved)
        balance += sign.sum(1)
    return sums[:, 0], sums[:, 1], balance


def _between(x: Tensor, far: Tensor, share: Tensor, length: Tensor, threat: LpBall) -> Tensor:
    """The points at this share of the way: on the line (L2), or in the smaller cube (L∞)."""
    if threat.norm == "l2":
        return torch.lerp(x, far, per_row(share, x)).clamp_(*threat.box)
    radius = per_row(share * length, x)
    return torch.minimum(torch.maximum(far, x - radius), x + radius).clamp_(*threat.box)


def _random(found: _Found, idx: Tensor, step: int, seed: int) -> Tensor:
    """In turn: values of their own, 4 x 4 blocks of one colour, corners of the box."""
    low, high = found.threat.box
    shape, rows = tuple(found.x.shape[1:]), found.rows[idx]
    if step % 3 == 1:
        c, h, w = as_image(shape)
        u = draws.uniform(seed, rows, step, (c, 4, 4) if h > 1 else (c, 1, 16))
        u = torch.nn.functional.interpolate(u, (h, w))
    else:
        u = draws.uniform(seed, rows, step, shape)
    if step % 3 == 2:
        u = u.round()
    u = u.to(found.x).reshape(-1, *shape)
    return (low + (high - low) * u).clamp_(low, high)
