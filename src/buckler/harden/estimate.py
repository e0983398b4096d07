"""How long a training will take, measured before it starts."""

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from buckler import draws
from buckler.harden.checkpoint import Run, copied
from buckler.harden.loop import batches_of, train_step
from buckler.harden.recipes import Recipe
from buckler.harden.validate import Validation
from buckler.protocols import Classifier

_STEPS = 5
_SLACK = 1.15  # of an estimate: other work on the machine, a longer last epoch


@dataclass(frozen=True)
class Estimate:
    """Seconds of one epoch and of one validation."""

    epoch: float
    validation: float

    def of(self, recipe: Recipe) -> float:
        """Seconds of the whole recipe."""
        return recipe.epochs * (self.epoch + self.validation / recipe.validate_every)


def estimate(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    recipe: Recipe,
    validate: Callable[[Classifier], Validation],
) -> Estimate:
    """Times a few full-strength steps of a copy, the median's, and one validation."""
    model = copy.deepcopy(model).requires_grad_(True).train()
    weights = copied(model.state_dict())
    run = Run(model, torch.optim.Adam(model.parameters(), lr=recipe.lr), weights, weights)
    batches = batches_of(0, 0, len(x), recipe.batch_size)
    taken = []
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(draws.derive(0, "estimate"))
        for rows in batches[: _STEPS + 1]:
            started = time.perf_counter()
            train_step(run, recipe.objective, recipe.awp, x[rows], y[rows], rows, 0, 1.0)
            taken.append(time.perf_counter() - started)
    started = time.perf_counter()
    validate(model.eval())
    step = statistics.median(taken[1:] or taken)  # the first one warms up
    return Estimate(_SLACK * step * len(batches), _SLACK * (time.perf_counter() - started))


def within(recipe: Recipe, found: Estimate, seconds: float) -> Recipe:
    """The recipe with no more epochs than fit; the learning rate still falls to 0 by its end."""
    each = found.of(recipe) / recipe.epochs
    return replace(recipe, epochs=max(1, min(recipe.epochs, int(seconds / each))))
