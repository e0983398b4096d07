"""One training loop for every recipe."""

import copy
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.errors import DataError
from buckler.harden.checkpoint import HistoryRow, Run, State
from buckler.harden.recipes import Recipe
from buckler.harden.validate import Validation
from buckler.protocols import Classifier, Progress


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
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> Hardened:
    """Train a copy of `model` on x (n, ...), y (n,); the caller's stays as it was.

    With `checkpoint`, the run's state is written there after every epoch and an interrupted run of
    the same recipe, seed and data goes on from it, to the same result: every draw is keyed by
    (seed, epoch, row), or for the net's own layers (dropout) by (seed, epoch); none by what
    happened before, and the caller's random state stays.

    Raises: DataError for no rows or rows of one class; KeyboardInterrupt passes through, and the
        checkpoint of the last whole epoch stays.
    """
    if len(y.unique()) < 2:
        raise DataError(
            f"training needs rows of at least 2 classes. Got {len(y)} rows of {len(y.unique())}"
        )
    model = copy.deepcopy(model).requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr)
    run = Run(model, optimizer, _copy(model.state_dict()), _copy(model.state_dict()))
    mark = _fingerprint(model, x, y, recipe, seed)
    if checkpoint is not None:
        run.resume(checkpoint, mark)
    while run.epoch < recipe.epochs:
        started = time.perf_counter()
        with torch.random.fork_rng(devices=[]):  # for dropout and its like
            torch.default_generator.manual_seed(draws.derive(seed, "torch", run.epoch))
            loss = _epoch(run, x, y, recipe, seed)
        run.epoch += 1
        row: HistoryRow = {"epoch": run.epoch, "loss": loss}
        if run.epoch % recipe.validate_every == 0 or run.epoch == recipe.epochs:
            found = _validate(run, validate, recipe)
            row |= {"clean": found.clean, "robust": found.robust}
        run.history.append({**row, "seconds": time.perf_counter() - started})
        if checkpoint is not None:
            run.save(checkpoint, mark)
        if progress is not None:
            progress(run.epoch, recipe.epochs)
    model.load_state_dict(run.best)
    return Hardened(model.eval().requires_grad_(False), run.history, run.best_score)


def _epoch(run: Run, x: Tensor, y: Tensor, recipe: Recipe, seed: int) -> float:
    """One pass over the rows in a fresh order; returns the mean loss."""
    run.model.train()
    order = draws.permutation(draws.derive(seed, "order"), run.epoch, len(x))
    batches = list(order.split(recipe.batch_size))
    if len(batches) > 1 and len(batches[-1]) == 1:  # batch norm has no variance of one row
        batches[-2:] = [torch.cat(batches[-2:])]
    total = 0.0
    for index, rows in enumerate(batches):
        at = (run.epoch + index / len(batches)) / recipe.epochs
        warm = min(1.0, (at + 0.5 / (recipe.epochs * len(batches))) / max(recipe.warmup, 1e-9))
        for group in run.optimizer.param_groups:
            group["lr"] = recipe.lr * min(warm, (1 - at) / (1 - min(recipe.warmup, 0.99)))
        noise = draws.derive(seed, "objective", run.epoch)
        loss = recipe.objective(run.model, x[rows], y[rows], noise, rows, warm)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        run.optimizer.step()
        _blend(run.average, run.model.state_dict(), recipe.average, run.epoch)
        total += float(loss.detach()) * len(rows)
    return total / len(x)


def _validate(run: Run, validate: Callable[[Classifier], Validation], recipe: Recipe) -> Validation:
    """Judge the averaged weights; keep them if they are the best yet."""
    judged = copy.deepcopy(run.model)
    judged.load_state_dict(run.average)
    found = validate(judged.eval().requires_grad_(False))
    score = found.score(recipe.chosen_by)
    if score >= run.best_score:
        run.best, run.best_score = _copy(run.average), score
    return found


def _blend(average: State, new: State, decay: float, epoch: int) -> None:
    """Exponential moving average; the first epoch's start is not worth remembering."""
    keep = decay if epoch else 0.0
    for name, value in new.items():
        if value.is_floating_point():
            average[name].mul_(keep).add_(value.detach(), alpha=1 - keep)
        else:
            average[name].copy_(value)


def _copy(state: State) -> State:
    return {name: value.detach().clone() for name, value in state.items()}


def _fingerprint(model: nn.Module, x: Tensor, y: Tensor, recipe: Recipe, seed: int) -> str:
    digest = hashlib.sha256(repr((recipe, seed, tuple(x.shape))).encode())
    for tensor in (x, y, *model.state_dict().values()):
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
