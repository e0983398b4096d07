"""Gradients for models that have none: estimated from scores, for any gradient attack.

>>> from buckler import PGD, LpBall
>>> import torch
>>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1).detach()
>>> x, y = torch.full((1, 2), 0.5), torch.tensor([1])
>>> blind = Estimated(model, queries_per_gradient=20)
>>> PGD(steps=5)(blind, x + torch.tensor([0.0, 0.1]), y, LpBall("linf", 0.2)).argmax(1).tolist()
[0]
"""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import logits_of
from buckler.errors import UsageError
from buckler.protocols import Attack, Classifier, Threat

Kind = Literal["spsa", "nes"]
_VALUES = 1 << 20  # values of probes that are made at once
_BITS = 24  # random bits in a number of draws.uniform


@dataclass(frozen=True)
class Estimated:
    """A classifier with the logits of `model` and an estimate of its gradient.

    Pairs of probes x ± sigma·u: with d = (x + sigma·u) − (x − sigma·u), cut by the box, and the
    difference of the pair's logits, value i of the gradient is Σ (v · difference) d_i / Σ d_i²,
    where v is what backward brings to that row's logits. "spsa": u of random signs (Spall 1992;
    Uesato et al. 2018, arXiv:1802.05666). "nes": u normal (Ilyas et al. 2018, arXiv:1804.08598).
    Every row draws its own directions from its own values: a point's estimate is the same in any
    batch.

    Args:
        queries_per_gradient: rows that are asked for one row's gradient, an even number; its logits
            cost one more.
        sigma: half the distance of a pair in each value, input units.
        box: the range that probes must not leave, if the model insists on one.
    """

    model: Classifier = field(repr=False)
    queries_per_gradient: int = 100
    sigma: float = 0.01
    kind: Kind = "spsa"
    box: tuple[float, float] | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.queries_per_gradient < 2 or self.queries_per_gradient % 2 or not self.sigma > 0:
            raise UsageError(
                "Estimated needs an even queries_per_gradient >= 2 and sigma > 0. Got "
                f"queries_per_gradient={self.queries_per_gradient}, sigma={self.sigma}"
            )
        if self.kind not in get_args(Kind):
            raise UsageError(f"kind must be one of {', '.join(get_args(Kind))}. Got {self.kind!r}")

    def __call__(self, x: Tensor) -> Tensor:
        logits: Tensor = _Estimate.apply(x, self)  # type: ignore[no-untyped-call]
        return logits

    def pull(self, x: Tensor, v: Tensor) -> Tensor:
        """The estimate of v · d logits/d x for each row; x (n, ...), v (n, k)."""
        if not len(x):
            return torch.zeros_like(x)
        size, keys, pairs = x[0].numel(), content_keys(x), self.queries_per_gradient // 2
        step = min(pairs, max(1, _VALUES // (2 * size)))  # of the size alone: draws go by it
        together = max(1, _VALUES // (2 * size * step))
        rows = torch.arange(len(x), device=x.device).split(together)
        return torch.cat([self._pull(x[part], v[part], keys[part], step) for part in rows])

    def _pull(self, x: Tensor, v: Tensor, keys: Tensor, step: int) -> Tensor:
        flat, pairs = x.flatten(1), self.queries_per_gradient // 2
        over, under = torch.zeros_like(flat), torch.zeros_like(flat)
        for start in range(0, pairs, step):
            count = min(step, pairs - start)
            shape = (count, flat.shape[1])
            seed = draws.derive(self.seed, self.kind, start)
            if self.kind == "spsa":
                u = signs(seed, keys, 0, shape).to(x)
            else:
                u = draws.normal(seed, keys, 0, shape).to(x)
            ends = torch.stack([flat[:, None] + self.sigma * u, flat[:, None] - self.sigma * u])
            if self.box is not None:
                ends = ends.clamp_(*self.box)
            logits = logits_of(self.model, ends.reshape(-1, *x.shape[1:])).to(x.dtype)
            high, low = logits.reshape(2, len(x), count, -1)
            rises = ((high - low) * v.to(x.dtype)[:, None]).sum(2)
            apart = ends[0] - ends[1]
            over += torch.einsum("np,npd->nd", rises, apart)
            under += apart.square().sum(1)
        return (over / under.clamp_min(torch.finfo(x.dtype).tiny)).reshape(x.shape)


class _Estimate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, estimated: Estimated) -> Tensor:
        ctx.save_for_backward(x)
        ctx.estimated = estimated
        return logits_of(estimated.model, x.detach()).clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return ctx.estimated.pull(x.detach(), grad), None


@dataclass(frozen=True)
class Estimating:
    """A gradient attack that sees scores only: the attack on `Estimated` of the model.

    With PGD(steps=s) a row that is not won costs s · (1 + queries_per_gradient) + 1 queries.

    Args:
        attack: any gradient attack.
        queries_per_gradient, sigma, kind: as in `Estimated`; sigma as a share of the box's width.
    """

    attack: Attack
    queries_per_gradient: int = 100
    sigma: float = 0.01
    kind: Kind = "spsa"
    name: str = "Estimating"

    def __post_init__(self) -> None:
        Estimated(lambda x: x, self.queries_per_gradient, self.sigma, self.kind)

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
        low, high = threat.box
        sigma = self.sigma * (high - low)
        estimated = Estimated(
            model,
            self.queries_per_gradient,
            sigma,
            self.kind,
            threat.box,
            draws.derive(seed, "box"),
        )
        return self.attack(estimated, x, y, threat, seed=seed, rows=rows)


def content_keys(x: Tensor) -> Tensor:
    """(n,) int64: a hash of each row's bits, so that equal rows have equal keys in any batch."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    bits = x.detach().flatten(1).contiguous().view(kinds[x.element_size()]).long()
    at = torch.zeros(1, dtype=torch.int64, device=x.device)
    halves = (draws.uniform(1, at, 0, (2, bits.shape[1]))[0] * 2**_BITS).long()
    weights = (halves[0] << _BITS) + halves[1]  # sums wrap around; draws mix the key further
    keys: Tensor = (bits * (2 * weights + 1)).sum(1)
    return keys


def signs(seed: int, rows: Tensor, step: int, shape: tuple[int, ...]) -> Tensor:
    """±1 at random, (n, *shape) float32: the bits of a uniform number are 24 signs."""
    size = torch.Size(shape).numel()
    whole = draws.uniform(seed, rows, step, (-(-size // _BITS),)) * 2**_BITS
    bits = torch.arange(_BITS, dtype=torch.int32, device=rows.device)
    each = (whole.to(torch.int32)[..., None] >> bits) & 1
    either: Tensor = (2 * each - 1).flatten(1)[:, :size].reshape(len(rows), *shape)
    return either.float()
