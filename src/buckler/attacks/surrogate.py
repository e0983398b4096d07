"""A surrogate of a black box, trained from its answers alone: what transfer attacks climb on."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.attacks.engine import gradient, logits_of
from buckler.errors import UsageError
from buckler.models.counted import Counted
from buckler.models.module import TorchClassifier, looks_like_probabilities
from buckler.protocols import Classifier
from buckler.threats import Goal

_BATCH = 64


@dataclass(frozen=True)
class Study:
    """How a black box is asked, and how long its answers are studied.

    Args:
        queries: rows it may be asked for. All are used: first rows of x, then rows made from them.
        rounds: how often rows are made, after the rows of x have been learnt.
        step: how far a made row is moved to where the surrogate's answer changes most, a fraction
            of the box.
        epochs: passes over all rows at the start, and in each round.
        held_out: share of the rows of x asked for that is kept apart, to measure agreement on.
    """

    queries: int
    rounds: int = 3
    step: float = 0.1
    epochs: int = 10
    held_out: float = 0.1

    def __post_init__(self) -> None:
        if self.queries < 3 or self.rounds < 1 or self.epochs < 1:
            raise UsageError(
                "Study needs queries >= 3, rounds >= 1 and epochs >= 1. Got "
                f"queries={self.queries}, rounds={self.rounds}, epochs={self.epochs}"
            )
        if not (self.step > 0 and 0 < self.held_out < 1):
            raise UsageError(
                "Study needs step > 0 and held_out between 0 and 1. Got "
                f"step={self.step}, held_out={self.held_out}"
            )


@dataclass(frozen=True)
class Surrogate:
    """A frozen stand-in, and how well it stands in.

    model: logits (n, k), differentiable.
    queries: rows the black box was asked for, all included.
    agreement: share of the held-out rows that it answers as the black box does.
    held_out: how many rows those were; none of them was learnt.
    """

    model: TorchClassifier
    queries: int
    agreement: float
    held_out: int


def train_surrogate(
    model: Classifier,
    x: Tensor,
    study: Study,
    *,
    net: Callable[[], nn.Module] | None = None,
    box: tuple[float, float] = (0.0, 1.0),
    seed: int = 0,
) -> Surrogate:
    """Ask a black box about x and rows made from it, and distil its answers into a small net.

    Papernot et al. 2017 (arXiv:1602.02697). Deviations: scores are distilled where they come back
    (Hinton et al. 2015, arXiv:1503.02531), bare decisions where not; the Jacobian's step begins
    between two rows (mixup, Zhang et al. 2018, arXiv:1710.09412) and goes there and back in turns;
    training goes on from the last round's weights.

    Args:
        model: the black box: logits, probabilities or one-hot decisions (n, k); no gradients.
        x: (n, ...) inputs of the kind it is made for; they need no labels.
        net: makes a fresh net with logits (n, k); None for `small_net`.
        box: the range that made rows stay in.

    Raises: UsageError for fewer than 3 rows.
    """
    if len(x) < 3:
        raise UsageError(f"a surrogate needs at least 3 rows of x. Got {len(x)}")
    asked = Counted(model, study.queries)
    order = draws.permutation(draws.derive(seed, "rows"), 0, len(x)).to(x.device)
    known = x[order[: study.queries]]
    apart = min(max(1, round(study.held_out * len(known))), len(known) - 2)
    truth, seen = logits_of(asked, known[:apart]).argmax(1), known[apart:]
    answers = _answers(asked, seen)
    with torch.random.fork_rng(devices=[]):  # layers and dropout draw from torch's own generator
        torch.default_generator.manual_seed(draws.derive(seed, "torch"))
        made = small_net(seen, answers.shape[1]) if net is None else net()
        student = made.to(seen).requires_grad_(True)
        for number in range(study.rounds + 1):
            count = (study.queries - asked.forwards) // (study.rounds + 1 - number)
            if number and count:
                fresh = _fresh(student, seen, count, study, box, draws.derive(seed, "x", number))
                seen = torch.cat([seen, fresh])
                answers = torch.cat([answers, _answers(asked, fresh)])
            _fit(student, seen, answers, study.epochs, draws.derive(seed, "fit", number))
    found = TorchClassifier(student).eval()  # the wrapper too, or it looks like one in training
    same = logits_of(found, known[:apart]).argmax(1) == truth
    return Surrogate(found, asked.forwards, float(same.double().mean()), apart)


def small_net(x: Tensor, classes: int) -> nn.Module:
    """For images (c, h, w) of any size three convolutions, for other shapes three linear layers;
    inputs are scaled by the mean and deviation of x (n, ...)."""
    if x.ndim != 4:
        size = prod(x.shape[1:])
        hidden = [nn.Linear(size, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU()]
        return nn.Sequential(_Scaled(x, 0), nn.Flatten(), *hidden, nn.Linear(128, classes))
    side = 2 if min(x.shape[2:]) >= 16 else 1
    return nn.Sequential(
        _Scaled(x, (0, 2, 3)),
        nn.Conv2d(x.shape[1], 32, 3, padding=1, stride=side),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(64 * 16, 128),
        nn.ReLU(),
        nn.Linear(128, classes),
    )


class _Scaled(nn.Module):
    """(x − mean) / deviation, over the dimensions `over` of a sample."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, x: Tensor, over: int | tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", x.mean(over, keepdim=True))
        # A pixel or feature that never moved says nothing of how far it might.
        deviation = x.std(over, keepdim=True, correction=0)
        self.register_buffer("deviation", torch.where(deviation > 0, deviation, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation


def _answers(model: Classifier, x: Tensor) -> Tensor:
    """(n, k) the black box's probabilities; bare decisions are one-hot ones."""
    logits = logits_of(model, x).to(x)
    return logits if looks_like_probabilities(logits) else logits.softmax(1)


def _fresh(
    student: nn.Module,
    seen: Tensor,
    count: int,
    study: Study,
    box: tuple[float, float],
    seed: int,
) -> Tensor:
    """`count` new rows: between two of those seen, then a step along the surrogate's gradient."""
    rows = torch.arange(count, device=seen.device)
    pick = (draws.uniform(seed, rows, 0, (2,)).double() * len(seen)).long()
    one, two = seen[pick[:, 0]], seen[pick[:, 1]]
    step = study.step * (box[1] - box[0])
    share = draws.uniform(seed, rows, 1, (1,) * (seen.ndim - 1)).to(seen)
    mixed = torch.lerp(one, two, share)
    student.eval()
    grad, _ = gradient(student, mixed, logits_of(student, mixed).argmax(1), Goal(), _logit)
    way = torch.where(rows % 2 == 0, 1.0, -1.0).to(seen).reshape(share.shape)
    return (mixed + step * way * grad.sign()).clamp(*box)


def _logit(logits: Tensor, y: Tensor, goal: Goal) -> Tensor:
    return logits.gather(1, y[:, None])[:, 0]


def _fit(student: nn.Module, x: Tensor, answers: Tensor, epochs: int, seed: int) -> None:
    """Adam, one cycle, cross entropy against the black box's probabilities."""
    student.train()
    rounds = -(-len(x) // _BATCH)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=rounds * epochs)
    for epoch in range(epochs):
        order = draws.permutation(seed, epoch, len(x)).to(x.device)
        batches = list(order.split(_BATCH))
        if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm has no variance of one row
            batches[-2:] = [torch.cat(batches[-2:])]
        for rows in batches:
            loss = functional.cross_entropy(student(x[rows]), answers[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
