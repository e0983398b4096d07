"""How attacks are measured side by side: counts, judged results, interleaved seconds, the floor."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Attacker = Callable[[nn.Module, Tensor, Tensor, int], Tensor]
"""(net, x (n, ...), y (n,), seed) → x_adv: one library's attack with its settings bound."""

_SLACK = 1e-4  # of eps, and 1e-6 beside it: peers' float32 may leave the ball by its last bits


class Counted(nn.Module):
    """A net that counts the rows that go forward and the rows whose gradient comes back."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.forwards = 0
        self.backwards = 0
        self.calls: list[tuple[int, bool]] = []
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.net(x)
        self.forwards += len(x)
        self.calls.append((len(x), logits.requires_grad and x.requires_grad))
        if logits.requires_grad:
            logits.register_hook(self._back)
        return logits

    def _back(self, grad: Tensor) -> None:
        self.backwards += len(grad)


@dataclass(frozen=True)
class Outcome:
    """What an attack's points are worth: judged by the net alone, the same for everyone.

    success: rows won inside the threat / rows. outside: rows whose point leaves ball or box (they
    win nothing). median: median distance over all rows, rows not won at infinity.
    """

    success: float
    outside: int
    median: float
    won: Tensor


def distance(x: Tensor, x_adv: Tensor, norm: str) -> Tensor:
    """(n,) in input units; "l0" counts values, "pixels" places with all their channels."""
    delta = (x_adv - x).flatten(1)
    if norm in ("l0", "pixels"):
        moved = (delta != 0).reshape(len(x), x.shape[1] if norm == "pixels" else 1, -1)
        return moved.any(1).sum(1).to(x.dtype)
    if norm == "linf":
        return delta.abs().amax(1)
    return delta.abs().sum(1) if norm == "l1" else torch.linalg.vector_norm(delta, dim=1)


def judge(
    net: nn.Module, x: Tensor, y: Tensor, x_adv: Tensor, norm: str, eps: float | None
) -> Outcome:
    """Ask the net again about what came back; eps None: any distance will do."""
    with torch.no_grad():
        wrong = torch.cat([net(part).argmax(1) for part in x_adv.split(500)]) != y
    flat = x_adv.flatten(1)
    inside = (torch.isfinite(flat) & (flat >= -1e-6) & (flat <= 1 + 1e-6)).all(1)
    far = distance(x, x_adv, norm)
    if eps is not None:
        inside = inside & (far <= eps * (1 + _SLACK) + 1e-6)
    won = wrong & inside
    middle = float(torch.where(won, far, torch.inf).median()) if len(x) else float("nan")
    return Outcome(float(won.float().mean()), int((~inside).sum()), middle, won)


def in_batches(
    attack: Attacker, net: nn.Module, x: Tensor, y: Tensor, seed: int, batch: int
) -> Tensor:
    """Everyone gets the same rows in the same batches, and the same seed for global draws."""
    torch.manual_seed(seed)
    parts = zip(x.split(batch), y.split(batch), strict=True)
    return torch.cat([attack(net, px, py, seed).detach() for px, py in parts])


def clock() -> float:
    """Seconds: with one thread the processor time of this process, so that another job beside it
    counts for nobody; with more threads the wall clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


@dataclass(frozen=True)
class Run:
    """One attacker's runs over the seeds: seconds by `clock`, and the points of each seed."""

    seconds: tuple[float, ...]
    points: tuple[Tensor, ...]


def interleaved(
    attackers: Mapping[str, Attacker],
    net: nn.Module,
    rows: Sequence[tuple[Tensor, Tensor]],
    batch: int,
) -> dict[str, Run]:
    """Time everyone on the same rows in turn, seed after seed; who begins changes with the seed.

    Peers get batches of `batch`; ours splits the rows by itself, so it gets all at once.

    Args:
        rows: x and y of each seed.
    """
    names, sizes = list(attackers), {"ours": len(rows[0][0])}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    points: dict[str, list[Tensor]] = {name: [] for name in names}
    for seed, (x, y) in enumerate(rows):
        for turn in range(len(names)):
            name = names[(turn + seed) % len(names)]
            gc.collect()
            started = clock()
            x_adv = in_batches(attackers[name], net, x, y, seed, sizes.get(name, batch))
            seconds[name].append(clock() - started)
            points[name].append(x_adv)
    return {name: Run(tuple(seconds[name]), tuple(points[name])) for name in names}


def counts(attack: Attacker, net: nn.Module, x: Tensor, y: Tensor, batch: int) -> Counted:
    """Rows forward and back of one run that nobody times (seed 0)."""
    counted = Counted(net)
    in_batches(attack, counted, x, y, 0, batch)
    return counted


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """(median, least, most) of their seconds / ours, run by run: > 1 where we are faster."""
    paired = [b / a for a, b in zip(ours, theirs, strict=True)]
    return statistics.median(paired), min(paired), max(paired)


def floor_seconds(net: nn.Module, x: Tensor, y: Tensor, calls: Sequence[tuple[int, bool]]) -> float:
    """The bare forward and backward time of these calls, (rows, with gradient), on this net.

    It is what no attack with that many active rows in each step can go below.
    """
    started = clock()
    for size, with_gradient in calls:
        part = x[:size].detach()
        if not with_gradient:
            with torch.no_grad():
                net(part)
            continue
        part.requires_grad_(True)
        logits = net(part)
        loss = nn.functional.cross_entropy(logits, y[:size], reduction="sum")
        torch.autograd.grad(loss, part)
    return clock() - started


def over_floor(
    attack: Attacker, net: nn.Module, x: Tensor, y: Tensor, batch: int, repeats: int = 5
) -> tuple[float, float]:
    """(floor seconds, seconds / floor): medians of runs that alternate with their bare passes."""
    calls = counts(attack, net, x, y, batch).calls
    pairs = []
    for _ in range(repeats):
        floor = floor_seconds(net, x, y, calls)
        started = clock()
        in_batches(attack, net, x, y, 0, batch)
        pairs.append((floor, (clock() - started) / floor))
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)
