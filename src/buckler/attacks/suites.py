"""Named sets of attacks; a suite is a tuple of values, cheapest first."""

from torch import Tensor

from buckler.attacks.fgsm import FGSM
from buckler.attacks.onepixel import OnePixel
from buckler.attacks.pgd import PGD
from buckler.attacks.square import Square
from buckler.protocols import Attack

Suite = tuple[Attack, ...]


def quick(queries: int = 500) -> Suite:
    """FGSM, PGD and Square: what everyone reports."""
    return (FGSM(), PGD(steps=40, step_size=0.1, loss="margin"), Square(queries=queries))


def static() -> Suite:
    """Attacks on the undefended classifier, whose results are shown to the guard."""
    return (
        FGSM(),
        PGD(steps=40, step_size=0.1, loss="ce", name="PGD-CE"),
        PGD(steps=40, step_size=0.1, loss="margin", name="PGD-margin"),
    )


def adaptive(pool: Tensor, steps: int = 100, restarts: int = 3, queries: int = 1000) -> Suite:
    """Attackers who know the whole guard: gradients through every surrogate with several losses,
    step sizes and kinds of start (x, random, accepted inputs of other classes), and scores alone.

    Args:
        pool: (m, ...) inputs from which some restarts begin.
    """
    return (
        FGSM(),
        PGD(
            steps=steps,
            step_size=0.25,
            restarts=restarts,
            loss="selective",
            decay=True,
            name="PGD-selective",
        ),
        PGD(steps=steps, step_size=1.0, loss="margin", decay=True, name="PGD-margin"),
        PGD(steps=steps, step_size=0.5, loss="ce", decay=True, name="PGD-CE"),
        PGD(
            steps=steps,
            step_size=0.25,
            restarts=restarts,
            loss="selective",
            decay=True,
            pool=pool,
            name="PGD-pool",
        ),
        Square(queries=queries),
    )


def blackbox(queries: int = 1000) -> Suite:
    """Scores alone: for models that give no gradient."""
    return (Square(queries=queries),)


def pixels(population: int = 100, generations: int = 20) -> Suite:
    """For a pixel budget."""
    return (OnePixel(population=population, generations=generations),)
