"""Is a figure too good to be true? What stronger theory and better-known work allow."""

from dataclasses import asdict, dataclass

from buckler.stats import Rate

BEST_KNOWN = {
    ("mnist", "linf", 0.3): 0.9634,
    ("cifar10", "linf", 8 / 255): 0.7371,
    ("cifar10", "l2", 0.5): 0.8497,
}
"""Robust accuracy under AutoAttack: (data, norm, eps) → the best published (RobustBench of March
2025; MNIST: Gowal et al. 2020, arXiv:2010.03593)."""
_POINTS = 0.02


@dataclass(frozen=True)
class Alarm:
    """What was compared; raised where the figure's lower end lies above what it may be."""

    name: str
    figure: float
    bound: float
    raised: bool
    sentence: str

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


def plausible(success: Rate, clean: float, bare_success_at_half: Rate, bare_clean: float) -> Alarm:
    """A guard that is robust at eps implies a classifier, though perhaps a slow one, that is robust
    at eps / 2 (Tramèr 2022, arXiv:2107.11630). One that beats its own members at half the radius
    would be a discovery; most likely its attackers were too weak.

    Args:
        success, clean: of the guard at eps: accepted and wrong / right at first, clean accuracy.
        bare_success_at_half, bare_clean: of its heaviest member, bare, at eps / 2.
    """
    figure, low = clean * (1 - success.value), clean * (1 - success.high)
    bound = bare_clean * (1 - bare_success_at_half.low)
    return Alarm(
        "guard at eps against its heaviest member at eps / 2",
        figure,
        bound,
        low > bound,
        "the guard holds at eps better than its members do at half of it: expect a stronger attack",
    )


def beyond_known(data: str, norm: str, eps: float, robust: Rate) -> Alarm | None:
    """Robust accuracy over all rows against the best published; None where none is known."""
    known = [
        value
        for (name, ball, radius), value in BEST_KNOWN.items()
        if data.split("-")[0] == name and ball == norm and abs(radius - eps) < 1e-6
    ]
    if not known:
        return None
    return Alarm(
        f"robust accuracy on {data} at {norm} {eps:g} against the best published",
        robust.value,
        known[0] + _POINTS,
        robust.low > known[0] + _POINTS,
        "better than the best published figure by over two points: expect a stronger attack",
    )
