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
_START = 200  # queries for which one start is asked, though another won already
_MEMORY = 0.6  # weight of the last round's estimate, beside 1 for the new one
_FIRM = 1e-3  # of the distance: how far behind the border an answer lies
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class HopSkipJump:
    """The nearest input, L∞ or L2, with another answer; uses which answers win, and no scores.

    Chen, Jordan and Wainwright 2020 (arXiv:1904.02144): on the border, estimate its normal from the
    answers around, step along it, and go back to the border straight towards x; row by row.
    Deviations: probes are random signs, in L2 too, and those of earlier rounds count on, each round
    0.6 of the next; a row stays at its nearest winning point where a step leads no nearer, and
    leaves the way back where it cannot end nearer; of several starts the one with the nearest
    border counts: x blended with noise, blocks, corners of the box, one colour, its own negative.
    The last query moves the answer 0.1 % outwards: right on the border, rounding would decide it. A
    row that nothing wins comes back as the best point asked (the only use of scores).

    Args:
        queries: forward passes a row, x itself included.
        probes: answers for the first estimate; round t asks √t times as many.
        gamma: scales the paper's precision, 1 / d^1.5 of the distance (L∞: 1 / d²).
        starts: (m, ...) inputs that may win; each row asks the nearest first, then made ones.
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
        found.firm()
        return found.answer()

    def _first(self, found: "_Found", seed: int) -> None:
        """Ask the given starts, then made ones, and walk from those that win to their borders;
        until there were enough of them, and each row has one that won."""
        starts, asked, order = self.starts, 0, None
        if starts is not None and len(starts):
            if starts.shape[1:] != found.x.shape[1:]:
                raise UsageError(
                    f"starts must be inputs of x's shape {tuple(found.x.shape[1:])}. "
                    f"Got {tuple(starts.shape[1:])}"
                )
            starts = starts.to(found.x).clamp(*found.threat.box)
            order = torch.cdist(found.x.flatten(1), starts.flatten(1)).argsort(dim=1, stable=True)
        while len(idx := found.unwon(and_open=asked * _START < self.queries)):
            if starts is not None and order is not None and asked < order.shape[1]:
                points = starts[order[idx, asked]]
            else:
                points = _made(found, idx, asked, draws.derive(seed, "first"))
            won = found.ask(idx, points)
            self._back(found, idx[won], points[won])
            asked += 1

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
        found.normal[idx] = normal = normal + _MEMORY * found.normal[idx]
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
            trying = (~won & found.may(idx)).nonzero()[:, 0]
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
            useful &= (middle > low) & (middle < high) & found.may(idx)
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
        self.normal = torch.zeros_like(self.nearest.flatten(1)) if len(x) else x
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

    def may(self, idx: Tensor) -> Tensor:
        """(m,) rows that may ask more: the last query is for `firm`."""
        return self.left[idx] > (0 if self.within else 1)

    def open(self) -> Tensor:
        """The rows to go on with: won somewhere, queries left."""
        every = torch.arange(len(self.x), device=self.x.device)
        return every[torch.isfinite(self.distance) & self.may(every) & self.unfinished(every)]

    def unwon(self, and_open: bool) -> Tensor:
        """The rows that won nowhere, queries left; and those to go on with, if they are wanted."""
        lost = (torch.isinf(self.distance) & (self.left > 0)).nonzero()[:, 0]
        return torch.cat([lost, self.open()]) if and_open else lost

    def firm(self) -> None:
        """Ask the last query a little behind the border, and answer with that point if it wins."""
        won_once = torch.isfinite(self.distance) & (self.distance > 0)
        idx = (won_once & (self.left > 0)).nonzero()[:, 0]
        if self.within or not len(idx):
            return
        points = torch.lerp(self.x[idx], self.nearest[idx], 1 + _FIRM).clamp_(*self.threat.box)
        won, _ = self.won(idx, points)
        self.left[idx] -= 1
        self.nearest[idx[won]] = points[won]

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


def _made(found: _Found, idx: Tensor, step: int, seed: int) -> Tensor:
    """x blended, in shares that are spread over (0, 1], with in turn: values of their own, 4 x 4
    blocks of one colour, corners of the box, one colour, the negative of x. The first share is 1.
    """
    low, high = found.threat.box
    x, rows, kind = found.x[idx], found.rows[idx], step % 5
    c, h, w = as_image(tuple(x.shape[1:]))
    shape = {1: (c, 4, 4) if h > 1 else (c, 1, 16), 3: (c, 1, 1)}.get(kind, (c, h, w))
    u = draws.uniform(seed, rows, step, shape)
    u = u.round() if kind == 2 else torch.nn.functional.interpolate(u, (h, w))
    other = low + (high - low) * u.to(x).reshape(x.shape)
    share = 1 - (_GOLDEN * (step + step // 5)) % 1  # each of the five kinds gets all sizes
    return torch.lerp(x, low + high - x if kind == 4 else other, share).clamp_(low, high)
