"""How a member is trained, as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from buckler.harden.objectives import Mixed, Noise, Objective, Standard
from buckler.threats import LpBall


@dataclass(frozen=True)
class Recipe:
    """Args:
    name: how the member is called.
    objective: what a step minimises.
    epochs, batch_size, lr: Adam; lr rises over the warm-up and falls linearly to 0.
    warmup: share of the epochs over which eps and lr rise.
    average: decay of the moving average of the weights, whose checkpoints are judged.
    validate_every: epochs between two validations.
    chosen_by: the checkpoint kept is the best by clean accuracy, or by the mean of clean and
        robust accuracy: a net that is right on nothing clean is robust at nothing.
    """

    name: str
    objective: Objective
    epochs: int = 60
    batch_size: int = 64
    lr: float = 2e-3
    warmup: float = 0.1
    average: float = 0.98
    validate_every: int = 5
    chosen_by: Literal["clean", "robust"] = "robust"


def standard(epochs: int, threat: LpBall) -> Recipe:
    return Recipe("standard", Standard(), epochs, chosen_by="clean")


def adversarial(epochs: int, threat: LpBall) -> Recipe:
    return Recipe("adversarial", Mixed(threat), epochs, batch_size=128)


def noise(epochs: int, threat: LpBall) -> Recipe:
    return Recipe("noise", Noise(0.05, box=threat.box), epochs)


RECIPES: dict[str, Callable[[int, LpBall], Recipe]] = {
    "standard": standard,
    "adversarial": adversarial,
    "noise": noise,
}
"""(epochs, the threat to train against) → the recipe."""
