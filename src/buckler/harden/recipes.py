"""How a member is trained, as a value."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import nn

from buckler.harden.certified import Certified, narrow_start
from buckler.harden.objectives import Attacked, Noise, Objective, OneStep, Standard, Trades
from buckler.harden.occluded import Occluded
from buckler.threats import LpBall, Patch


@dataclass(frozen=True)
class Recipe:
    """Args:
    name: how the member is called.
    objective: what a step minimises.
    epochs, batch_size, lr: Adam; lr rises over the first share `rise` of the epochs and falls
        linearly to 0.
    warmup: share of the epochs over which eps (or noise) rises.
    average: epochs over which the moving average of the weights reaches, whose checkpoints are
        judged.
    validate_every: epochs between two validations.
    patience: validations without a better one after which training ends.
    chosen_by: the checkpoint kept is the best by clean accuracy, or by the mean of clean and
        robust accuracy: a net that is right on nothing clean is robust at nothing.
    awp: adversarial weight perturbation's size, relative to each layer's norm; 0: none.
    fallback: the objective to go on with once one-step training has collapsed.
    initial: (net, seed) → None, writes the weights a fresh run starts from.
    """

    name: str
    objective: Objective
    epochs: int = 60
    batch_size: int = 128
    lr: float = 2e-3
    rise: float = 0.1
    warmup: float = 0.1
    average: float = 3.0
    validate_every: int = 1
    patience: int = 20
    chosen_by: Literal["clean", "robust"] = "robust"
    awp: float = 0.0
    fallback: Objective | None = None
    initial: Callable[[nn.Module, int], None] | None = None


def standard(epochs: int, threat: LpBall) -> Recipe:
    """Ordinary training."""
    return Recipe("standard", Standard(), epochs, batch_size=64, chosen_by="clean")


def noise(epochs: int, threat: LpBall) -> Recipe:
    """Gaussian noise: a little against noise, nothing against an attacker."""
    low, high = threat.box
    return Recipe("noise", Noise(sigma=0.05 * (high - low), box=threat.box), epochs, batch_size=64)


def mixed(epochs: int, threat: LpBall) -> Recipe:
    """The article's: half of each batch attacked."""
    return Recipe("mixed", Attacked(threat=threat, steps=10, clean=0.5), epochs)


def pgd(epochs: int, threat: LpBall) -> Recipe:
    """Adversarial training: the default."""
    return Recipe("pgd", Attacked(threat=threat), epochs)


def trades(epochs: int, threat: LpBall) -> Recipe:
    """Clean against robust accuracy by one dial, the objective's beta."""
    return Recipe("trades", Trades(threat=threat), epochs)


def fast(epochs: int, threat: LpBall) -> Recipe:
    """One step a batch; where that collapses, PGD from the last good weights."""
    return Recipe("fast", OneStep(threat=threat), epochs, fallback=Attacked(threat=threat))


def certified(epochs: int, threat: LpBall) -> Recipe:
    """Training for a proof by interval bounds; L∞ alone."""
    return Recipe(
        "certified",
        Certified(threat=threat),
        epochs,
        rise=0.05,
        warmup=0.5,
        initial=narrow_start,
    )


def occluded(epochs: int, threat: Patch) -> Recipe:
    """Training for masks, against one patch; not among RECIPES, which are against L∞ balls."""
    return Recipe("occluded", Occluded(threat=threat), epochs)


RECIPES: dict[str, Callable[[int, LpBall], Recipe]] = {
    "standard": standard,
    "noise": noise,
    "mixed": mixed,
    "pgd": pgd,
    "trades": trades,
    "fast": fast,
    "certified": certified,
}
"""(epochs, the threat to train against) → the recipe."""
