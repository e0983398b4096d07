"""What is under test: what attackers see of it, and what it answers when someone counts."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from buckler.attacks import Randomised, draws_each_row
from buckler.guard import Guard
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier, check_classifier, differentiable, tuned
from buckler.protocols import Classifier
from buckler.threats import Goal

_DRAWS = 8
Answer = Callable[[Tensor], tuple[Tensor, Tensor]]
"""x (n, ...) → predicted class (n,) int64, accepted (n,) bool."""


@dataclass(frozen=True)
class Target:
    """A classifier or a guard under test.

    view: logits for attackers, (n, k), or (n, k + 1) for a guard; goal is what wins there.
    answer: the deployed system's own answer, asked again by whoever counts.
    random: its answers depend on draws: a success is also tried on last-bit variants.
    gradients: False for families that have none (trees, files, endpoints), which are attacked by
        scores and answers alone. A torch module always has them: one that cuts them off hides them.
    """

    name: str
    view: Classifier
    goal: Goal
    answer: Answer
    spec: InputSpec
    random: bool = False
    digest: str = ""
    gradients: bool = True


def of_model(model: Classifier, spec: InputSpec, x: Tensor, name: str = "undefended") -> Target:
    """A bare classifier, looked at on x first: every answer is accepted.

    One that answers the same rows differently is attacked through the mean of eight draws (EOT).

    Raises: UsageError if it is in training mode, or returns probabilities or a wrong shape.
    """
    check_classifier(model, x, spec.classes)
    view = model
    if isinstance(model, nn.Module):
        model = TorchClassifier(model)  # frozen: no gradient is computed that nobody asks for
        view = tuned(model, x, queries=True)

    def answer(rows: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            predicted = model(rows).argmax(1)
        return predicted, torch.ones_like(predicted, dtype=torch.bool)

    with torch.no_grad():
        random = bool(((model(x[:64]) - model(x[:64])).abs() > 1e-4).any())
    if random:
        view = Randomised(view, _DRAWS, together=draws_each_row(model, x))
    gradients = isinstance(model, nn.Module) or differentiable(model, x)
    return Target(name, view, Goal(), answer, spec, random, gradients=gradients)


def of_guard(guard: Guard, name: str = "guard", draws: int = _DRAWS) -> Target:
    """A guard: attackers see its k + 1 view, the mean of `draws` of their own draws if random."""
    view = guard.attack_view(range(draws) if guard.random else ())
    goal = Goal("guarded")
    return Target(name, view, goal, guard.answer, guard.spec, guard.random, guard.digest)
