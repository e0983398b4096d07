"""One training loop for every recipe."""

import copy
import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.errors import DataError, UsageError
from buckler.harden.awp import perturbed
from buckler.harden.checkpoint import HistoryRow, Run, State, copied
from buckler.harden.objectives import Objective
from buckler.harden.recipes import Recipe
from buckler.harden.validate import Validation
from buckler.protocols import Classifier, Progress

_ATTEMPTS = 3
_LEARNT = 300  # steps, before which an untrained net's answers are no sign
_GAP = 0.15  # right after one step but not after ten: one-step training has collapsed
_FALL = 0.7  # of the best robust accuracy


@dataclass(frozen=True)
class Hardened:
    """The best checkpoint by validation, in eval mode, and one history row an epoch."""

    model: nn.Module
    history: list[HistoryRow]
    score: float


def harden(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    validate: Callable[[Classifier], Validation],
    *,
    seed: int = 0,
    seconds: float | None = None,
    judged_by: str = "",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Hardened:
    """Train a copy of `model` on x (n, ...), y (n,); the caller's stays as it was.

    With `checkpoint`, the run's state is written there after every epoch and an interrupted run of
    the same recipe, seed and data goes on from it, to the same result: every draw is keyed by
    (seed, epoch, row), or for the net's own layers (dropout) by (seed, epoch); none by what
    happened before, and the caller's random state stays. A net that answers the same class
    throughout after its warm-up begins again with half the rate and twice the warm-up.

    Args:
        seconds: end with the last epoch that fits into so many, resumed ones counted.
        judged_by: names what `validate` looks at; a checkpoint judged by another is not taken up.
        progress: called with (batches done, batches).

    Raises: DataError for no rows or rows of one class; UsageError for a net that stays at one
        class three times; KeyboardInterrupt passes through, and the checkpoint of the last whole
        epoch stays.
    """
    if len(y.unique()) < 2:
        raise DataError(
            f"training needs rows of at least 2 classes. Got {len(y)} rows of {len(y.unique())}"
        )
    model = copy.deepcopy(model).requires_grad_(True)
    if recipe.initial is not None:
        recipe.initial(model, seed)
    start = copied(model.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    run = Run(model, optimizer, copied(start), copied(start))
    mark = _fingerprint(model, x, y, recipe, seed, judged_by)
    if checkpoint is not None:
        run.resume(checkpoint, mark)
    while not _ended(run, recipe, seconds):
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[]):  # for dropout and its like
            torch.default_generator.manual_seed(draws.derive(seed, "torch", run.epoch))
            loss = _epoch(run, x, y, recipe, seed, progress)
        run.epoch += 1
        row: HistoryRow = {"epoch": run.epoch, "loss": loss}
        if run.epoch % recipe.validate_every == 0 or run.epoch == recipe.epochs:
            row |= _judged(run, validate, recipe, start, len(x))
        run.history.append({**row, "seconds": time.perf_counter() - started})
        if checkpoint is not None:
            run.save(checkpoint, mark)
    if run.best_score < 0:  # the time was over before a validation
        run.best = copied(run.average)
    model.load_state_dict(run.best)
    return Hardened(model.eval().requires_grad_(False), run.history, run.best_score)


def batches_of(seed: int, epoch: int, n: int, size: int) -> list[Tensor]:
    """The rows in a fresh order; a last batch of one joins the one before, for batch norm has no
    variance of one row."""
    order = draws.permutation(draws.derive(seed, "order"), epoch, n)
    batches = list(order.split(size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def train_step(
    run: Run, objective: Objective, awp: float, x: Tensor, y: Tensor, rows: Tensor, seed: int,
    warm: float,
) -> float:  # fmt: skip
    """One step of the optimiser on rows x (n, ...), y (n,) of ids `rows`; returns the loss."""
    model = run.model
    with torch.autocast(x.device.type, torch.bfloat16, enabled=x.is_cuda):
        x_adv = objective.craft(model, x, y, seed, rows, warm)
        size = awp if warm >= 1 else 0.0
        with perturbed(model, lambda: objective.loss(model, x, x_adv, y, warm), size):
            loss = objective.loss(model, x, x_adv, y, warm)
            run.optimizer.zero_grad(set_to_none=True)
            loss.backward()
    run.optimizer.step()
    return float(loss.detach())


def _epoch(
    run: Run, x: Tensor, y: Tensor, recipe: Recipe, seed: int, progress: Progress | None
) -> float:
    """One pass over the rows; returns the mean loss."""
    run.model.train()
    objective = recipe.objective
    if run.fallen and recipe.fallback is not None:
        objective = recipe.fallback
    batches = batches_of(seed, run.epoch, len(x), recipe.batch_size)
    decay = 1 - 1 / (1 + recipe.average * len(batches)) if run.epoch else 0.0
    noise = draws.derive(seed, "objective", run.epoch)
    warmup, rise = _longer(recipe.warmup, run), _longer(recipe.rise, run)
    total = 0.0
    for index, rows in enumerate(batches):
        at = (run.epoch + index / len(batches)) / recipe.epochs
        middle = at + 0.5 / (recipe.epochs * len(batches))  # of this step
        warm = min(1.0, middle / max(warmup, 1e-9))
        for group in run.optimizer.param_groups:
            rate = recipe.lr * 0.5**run.attempt
            group["lr"] = rate * min(1.0, middle / max(rise, 1e-9), (1 - at) / (1 - rise))
        loss = train_step(run, objective, recipe.awp, x[rows], y[rows], rows, noise, warm)
        _blend(run.average, run.model.state_dict(), decay)
        total += loss * len(rows)
        if progress is not None:
            progress(run.epoch * len(batches) + index + 1, recipe.epochs * len(batches))
    return total / len(x)


def _judged(
    run: Run, validate: Callable[[Classifier], Validation], recipe: Recipe, start: State, n: int
) -> HistoryRow:
    """Validate the averaged weights; keep them if they are the best yet, and put right what has
    gone wrong: a net stuck at one class, or one-step training that collapsed."""
    judged = copy.deepcopy(run.model)
    judged.load_state_dict(run.average)
    found = validate(judged.eval().requires_grad_(False))
    facts: HistoryRow = {"clean": found.clean, "robust": found.robust}
    best = max((row["robust"] for row in run.history if "robust" in row), default=0.0)
    warm_epochs = _longer(recipe.warmup, run) * recipe.epochs
    warming = run.epoch < max(2, warm_epochs)
    early = run.epoch * n / recipe.batch_size < _LEARNT
    if found.constant and not warming and not early:
        run.attempt += 1
        if run.attempt == _ATTEMPTS:
            raise UsageError(
                f"the net answers one class throughout after {run.epoch} epochs, {_ATTEMPTS} times "
                f"over, the last at a rate of {recipe.lr * 0.5 ** (run.attempt - 1):g}: lower the "
                "recipe's lr or eps, or check the labels"
            )
        run.restart(start)
        run.epoch = 0
        return {**facts, "restarted": 1.0}
    if recipe.fallback is not None and not run.fallen and not warming and _collapsed(found, best):
        run.fallen = True
        run.restart(run.best)
        return {**facts, "fell_back": 1.0}
    score = found.score(recipe.chosen_by)
    if run.best_epoch <= warm_epochs < run.epoch:
        run.best_score = -1.0  # at a smaller radius nets look better than they are
    if score >= run.best_score:
        run.best, run.best_score, run.best_epoch = copied(run.average), score, run.epoch
    return facts


def _collapsed(found: Validation, best: float) -> bool:
    """Catastrophic overfitting (Wong et al. 2020, arXiv:2001.03994), or an attack too weak for
    this radius: robust to one step alone, or suddenly to nothing."""
    gap = 0.0 if found.one_step is None else found.one_step - found.robust
    return gap > _GAP or found.robust < _FALL * best


def _ended(run: Run, recipe: Recipe, seconds: float | None) -> bool:
    """All epochs done, no time for another, or no better checkpoint for as long as is patient."""
    if run.epoch >= recipe.epochs:
        return True
    if seconds is not None and run.history:
        longest = max(row["seconds"] for row in run.history)
        if run.seconds + longest > seconds:
            return True
    warm_epochs = _longer(recipe.warmup, run) * recipe.epochs
    waited = (run.epoch - max(run.best_epoch, warm_epochs)) / recipe.validate_every
    return waited >= recipe.patience


def _longer(share: float, run: Run) -> float:
    """A warm-up's share of the epochs: twice as long at each new attempt, at most half."""
    return share if run.attempt == 0 else min(0.5, share * 2**run.attempt)


def _blend(average: State, new: State, decay: float) -> None:
    """Exponential moving average."""
    for name, value in new.items():
        if value.is_floating_point():
            average[name].mul_(decay).add_(value.detach(), alpha=1 - decay)
        else:
            average[name].copy_(value)


def _fingerprint(
    model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, seed: int, judged_by: str
) -> str:
    initial = getattr(recipe.initial, "__qualname__", "")  # a function's repr is its address
    plain = dataclasses.replace(recipe, initial=None)
    digest = hashlib.sha256(repr((plain, initial, seed, judged_by, tuple(x.shape))).encode())
    for tensor in (x, y, *model.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
