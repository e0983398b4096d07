"""Named sets of attacks; a suite is a tuple of values, cheapest first."""

from dataclasses import replace
from typing import Literal

from torch import Tensor

from buckler.attacks.apgd import APGD
from buckler.attacks.capgd import CAPGD
from buckler.attacks.colour import ColourShift
from buckler.attacks.corruptions import Corruptions
from buckler.attacks.fab import FAB
from buckler.attacks.fgsm import FGSM
from buckler.attacks.hopskipjump import HopSkipJump
from buckler.attacks.onepixel import OnePixel
from buckler.attacks.orthogonal import OrthogonalPGD
from buckler.attacks.patch import PatchAttack
from buckler.attacks.pgd import PGD
from buckler.attacks.rows import Values
from buckler.attacks.search import PriceSearch
from buckler.attacks.simba import SimBA
from buckler.attacks.spatial import WorstOfK
from buckler.attacks.square import Square
from buckler.attacks.sticker import StickerAttack
from buckler.attacks.strong import Strong
from buckler.attacks.under import Under
from buckler.errors import UsageError
from buckler.protocols import Attack
from buckler.threats import Colour, Corruption, Patch, Spatial, Sticker
from buckler.threats.lp import Norm

Suite = tuple[Attack, ...]

NAMES = ("quick", "standard", "rand", "strong", "blackbox", "physical", "unrestricted")


def by_name(
    name: str,
    *,
    norm: Norm | Literal["l0"] = "linf",
    queries: int = 1000,
    box: tuple[float, float] = (0.0, 1.0),
) -> Suite:
    """The suite of that name.

    Args:
        norm: of the ball; "l0" (a pixel budget) has a `blackbox` suite alone.
        queries: a row and attack, of attacks by scores or answers alone.
        box: of the data, for suites with threats of their own.

    Raises: UsageError for a name that is none, or not for this norm.
    """
    if norm == "l0":
        if name != "blackbox":
            raise UsageError(f"for a pixel budget there is the suite 'blackbox'. Got {name!r}")
        return pixels(generations=max(0, queries // 100 - 1))
    if name == "quick":
        return quick(queries, norm)
    if name == "blackbox":
        return blackbox(queries, norm)
    if name == "rand":
        return rand()
    if name in ("physical", "unrestricted"):
        return physical(box) if name == "physical" else unrestricted(box)
    if name in ("standard", "strong"):
        return standard(norm) if name == "standard" else strong(norm)
    raise UsageError(f"a suite must be one of {', '.join(NAMES)}. Got {name!r}")


def quick(queries: int = 500, norm: Norm = "linf") -> Suite:
    """FGSM, PGD and Square: what everyone reports."""
    return (FGSM(), PGD(steps=40, step_size=0.1, loss="margin"), Square(queries=queries))


def standard(norm: Norm = "linf") -> Suite:
    """AutoAttack's standard version (Croce and Hein 2020, 2021): its attacks, order, parameters."""
    sparse = norm == "l1"
    return (
        APGD(restarts=5 if sparse else 1, widen=sparse, name="APGD-CE"),
        APGD(loss="dlr", targets=5 if sparse else 9, widen=sparse, name="APGD-T"),
        FAB(within=True, name="FAB-T"),
        Square(queries=5000, rescale=False),
    )


def rand() -> Suite:
    """AutoAttack's version for random models: attack the mean of 20 draws of one (`Randomised`)."""
    return (APGD(name="APGD-CE"), APGD(loss="dlr", name="APGD-DLR"))


def strong(norm: Norm = "linf") -> Suite:
    """As strong as `standard` for a tenth of its cost."""
    return (Strong(),)


def blackbox(queries: int = 1000, norm: Norm = "linf") -> Suite:
    """From answers to queries: scores with random search and waves, then decisions alone."""
    scores = (Square(queries=queries), SimBA(queries=queries))
    if norm == "l1":
        return scores[:1]
    return (*scores, HopSkipJump(queries=queries, within=True))


def physical(box: tuple[float, float] = (0.0, 1.0)) -> Suite:
    """Things put into the scene: a small patch, and a sticker seen from many sides."""
    patch, sticker = Patch(0.02, box=box), Sticker(box=box)
    return (Under(PatchAttack(), patch), Under(StickerAttack(), sticker))


def unrestricted(box: tuple[float, float] = (0.0, 1.0)) -> Suite:
    """Changes that no ball holds: where it stands, how it is lit, how badly it is seen."""
    return (
        Under(WorstOfK(), Spatial(fill=box[0], box=box)),
        Under(ColourShift(), Colour(box=box)),
        Under(Corruptions(), Corruption(severity=3, box=box)),
    )


def tabular(gradient: bool = True, values: Values | None = None) -> Suite:
    """For tables, under a FeatureThreat: the gradient where there is one, then a search.

    A gradient alone overstates how sturdy a classifier of tables is; the difference between the two
    rows of the report is by how much.

    Args:
        values: what the search may set each feature to: `split_values` for trees.
    """
    search = PriceSearch(values=values)
    return (CAPGD(), search) if gradient else (search,)


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
    stop: bool = True,
    guarded: bool = True,
) -> Suite:
    """Attackers who know the whole guard: gradients through every surrogate with several losses,
    step sizes and kinds of start (x, random, accepted inputs of other classes), and scores alone.

    Args:
        pool: (m, ...) inputs from which some restarts begin.
        stop: False for random targets: a win on the mean of some draws is worth more with a lead.
        guarded: the target rejects, so that classifier and detector may be fooled apart.
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
    orthogonal = OrthogonalPGD(steps=steps, name="PGD-orthogonal")
    both = (selective, orthogonal) if guarded else (selective,)
    return (FGSM(), *both, long_steps, smooth, from_pool, Square(queries=queries))


def pixels(population: int = 100, generations: int = 20) -> Suite:
    """For a pixel budget."""
    return (OnePixel(population=population, generations=generations),)
