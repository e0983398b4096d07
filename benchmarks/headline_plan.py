"""What the headline trains and attacks, data set by data set."""

from dataclasses import dataclass, replace

from benchmarks.headline_nets import Training, make

ARTICLE = ("standard", "mixed", "noise")


@dataclass(frozen=True)
class Plan:
    """eps: radii attacked, the policy's first. members: the guard's candidates; single: the net
    whose clean and robust accuracy stand alone, at the largest radius. asked: (name of the bar,
    comparison, value)."""

    eps: tuple[float, ...]
    standard: Training
    members: tuple[Training, ...]
    article: tuple[Training, ...]
    review_rate: float
    l2: float
    rows: int = 2000

    @property
    def single(self) -> Training:
        return self.members[0]

    @property
    def trainings(self) -> tuple[Training, ...]:
        return (self.standard, *self.members, *self.article)


def plan_of(name: str, quick: bool) -> Plan:
    """Quick: a tenth of the epochs and of the rows."""
    found = _PLANS[name]()
    if not quick:
        return found

    def short(training: Training) -> Training:
        recipe = training.recipe
        return replace(training, recipe=replace(recipe, epochs=max(2, recipe.epochs // 10)))

    return replace(
        found,
        standard=short(found.standard),
        members=tuple(short(member) for member in found.members[:2]),
        article=tuple(short(member) for member in found.article),
        rows=60,
    )


def _mnist() -> Plan:
    return Plan(
        eps=(0.1, 0.3),
        standard=make("standard", "standard", "wide", 6, 0.1),
        members=(
            make("pgd", "ramps", "ramps", 20, 0.3, 1, beyond=1.17),
            make("pgd", "pgd", "wide", 20, 0.3, beyond=1.17),
        ),
        article=tuple(make(kind, kind, "wide", 6, 0.1) for kind in ARTICLE[1:]),
        review_rate=0.007,
        l2=1.5,
    )


def _fashion() -> Plan:
    return Plan(
        eps=(0.1,),
        standard=make("standard", "standard", "wide", 8, 0.1),
        members=(
            make("pgd", "ramps", "ramps", 20, 0.1, beyond=1.25),
            make("trades", "ramps-trades", "ramps", 20, 0.1, 1),
        ),
        article=tuple(make(kind, kind, "wide", 8, 0.1) for kind in ARTICLE[1:]),
        review_rate=0.007,
        l2=1.5,
    )


def _cifar() -> Plan:
    eps = 8 / 255
    return Plan(
        eps=(eps,),
        standard=make("standard", "standard", "colour", 20, eps),
        members=tuple(make("pgd", f"pgd-{seed + 1}", "colour", 30, eps, seed) for seed in range(2)),
        article=tuple(make(kind, kind, "colour", 20, eps) for kind in ARTICLE[1:]),
        review_rate=0.02,
        l2=0.5,
    )


_PLANS = {"mnist": _mnist, "fashion": _fashion, "cifar10-20k": _cifar}
