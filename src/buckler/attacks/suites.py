"""Named sets of attacks; a suite is a tuple of values, cheapest first."""

from dataclasses import replace

from torch import Tensor

from buckler.attacks.fgsm import FGSM
from buckler.attacks.onepixel import OnePixel
from buckler.attacks.pgd import PGD
from buckler.attacks.square import Square
from buckler.protocols import Attack

Suite = tuple[Attack, ...]


def quick(queries: int = 500, norm: str = "linf") -> Suite:
    """FGSM, PGD and, for L∞, Square: what everyone reports."""
    gradients = (FGSM(), PGD(steps=40, step_size=0.1, loss="margin"))
    return (*gradients, *_scores(queries, norm))


def static() -> Suite:
    """Attacks on the undefended classifier, whose results are shown to the guard: they climb on
    after they have won there, since a guard asks for more."""
    return (
        FGSM(),
        PGD(steps=40, step_size=0.1, loss="ce", stop=False, name="PGD-CE"),
        PGD(steps=40, step_size=0.1, loss="margin", stop=False, name="PGD-margin"),
    )


def adaptive(
    pool: Tensor,
    steps: int = 100,
    restarts: int = 3,
    queries: int = 1000,
    *,
    norm: str = "linf",
    stop: bool = True,
) -> Suite:
    """Attackers who know the whole guard: gradients through every surrogate with several losses,
    step sizes and kinds of start (x, random, accepted inputs of other classes), and scores alone.

    Args:
        pool: (m, ...) inputs from which some restarts begin.
        norm: under L2 there is no attack by scores alone yet.
        stop: False for random targets: a win on the mean of some draws is worth more with a lead.
    """
    selective = PGD(
        steps=steps,
        step_size=0.25,
        restarts=restarts,
        loss="selective",
        decay=True,
        stop=stop,
        name="PGD-selective",
    )
    long_steps = PGD(
        steps=steps, step_size=1.0, loss="margin", decay=True, stop=stop, name="PGD-margin"
    )
    smooth = PGD(steps=steps, step_size=0.5, loss="ce", decay=True, stop=stop, name="PGD-CE")
    from_pool = replace(selective, pool=pool, name="PGD-pool")
    return (FGSM(), selective, long_steps, smooth, from_pool, *_scores(queries, norm))


def pixels(population: int = 100, generations: int = 20) -> Suite:
    """For a pixel budget."""
    return (OnePixel(population=population, generations=generations),)


def _scores(queries: int, norm: str) -> Suite:
    return (Square(queries=queries),) if norm == "linf" else ()
