"""Several systems side by side: static and adaptive attackers, and whether the figure stands."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor

from buckler.assess.parallel import side_by_side
from buckler.assess.run import Assessment, assess
from buckler.assess.target import Target
from buckler.attacks import suites
from buckler.attacks.pgd import PGD
from buckler.protocols import Progress, Threat
from buckler.stats import Rate

_FINE = 100  # steps of the progress an attack


@dataclass(frozen=True)
class Effort:
    """How hard the adaptive attackers try; the same for every system of a comparison."""

    steps: int = 50
    restarts: int = 2
    queries: int = 500


@dataclass(frozen=True)
class Compared:
    """One system: the static and the adaptive assessment, and the unbounded attack's success."""

    name: str
    static: Assessment
    adaptive: Assessment
    unbounded: Rate

    @property
    def struck(self) -> tuple[str, ...]:
        """Why the adaptive figure does not stand; empty if it does."""
        reasons = []
        if self.unbounded.value < 0.95:
            reasons.append(
                f"an attack without a bound wins only {self.unbounded.value:.1%}: it is too weak"
            )
        by_scores = [r for r in self.adaptive.suite if r.attack == "Square"]
        if not by_scores:
            reasons.append("no attack by scores alone was tried")
        right = int(self.adaptive.ledger.right.sum())
        if by_scores and right and by_scores[0].broken > max(0.005 * right, 1):
            reasons.append(
                f"scores alone break {by_scores[0].broken} rows that gradients did not: "
                "the gradients mislead"
            )
        return tuple(reasons)

    def to_dict(self) -> dict[str, object]:
        return {
            "name": self.name,
            "static": self.static.to_dict(),
            "adaptive": self.adaptive.to_dict(),
            "unbounded": asdict(self.unbounded),
            "struck": list(self.struck),
        }


def compare(
    systems: Sequence[Target],
    undefended: Target,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    pool: Tensor,
    *,
    rows: Tensor,
    effort: Effort = Effort(),
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> list[Compared]:
    """Each system under the static suite (made for `undefended`) and the adaptive one.

    Args:
        pool: inputs of the calibrate split, from which some attacks start.
        workers: systems attacked at a time; the figures do not depend on it.
        progress: called with (steps done, steps), over all systems.
    """
    static = suites.static()

    def adaptive(system: Target) -> suites.Suite:
        guarded = system.goal.kind == "guarded" and threat.to_dict()["norm"] != "l1"
        steps, restarts, queries = effort.steps, effort.restarts, effort.queries
        return suites.adaptive(
            pool, steps, restarts, queries, stop=not system.random, guarded=guarded
        )

    every = {system.name: len(static) + len(adaptive(system)) + 1 for system in systems}
    done = dict.fromkeys(every, 0.0)

    def attack(system: Target) -> Compared:
        def say(count: float) -> None:
            done[system.name] = count
            if progress is not None:
                progress(round(_FINE * sum(done.values())), _FINE * sum(every.values()))

        def run(suite: suites.Suite, source: Target | None, before: int) -> Assessment:
            return assess(
                system,
                x,
                y,
                threat,
                suite,
                rows=rows,
                seed=seed,
                source=source,
                progress=lambda count, total: say(before + len(suite) * count / total),
            )

        shown = run(static, undefended, 0)
        known = run(adaptive(system), None, len(static))
        free = _unbounded(system, x, y, threat)
        say(every[system.name])
        return Compared(system.name, shown, known, free)

    return side_by_side([partial(attack, system) for system in systems], workers)


def _unbounded(system: Target, x: Tensor, y: Tensor, threat: Threat) -> Rate:
    """Success of gradients alone with no bound but the box, on at most 100 rows."""
    attack = PGD(steps=100, step_size=0.25, loss="selective", restarts=3, decay=True)
    few = torch.arange(min(100, len(x)))
    free = threat.take(few).unbounded(x)
    return assess(system, x[few], y[few], free, (attack,)).ledger.rates()["success"]
