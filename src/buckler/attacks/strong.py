"""The strongest attack for its price: effort goes where a row is likely to fall."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.apgd import best_targets, climb_from, start_points
from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.attacks.square import Square
from buckler.errors import UsageError
from buckler.losses import LOSSES, Loss, pair
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall

_DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}


@dataclass(frozen=True)
class Strong:
    """Short climbs for all rows, long ones and many targets for those that came near; L∞ L2 L1.

    Ours, of known parts: APGD on the cross entropy; APGD-T on the classes whose borders are nearest
    to first order from there (the linearised distance of DeepFool and FAB, not the rank of the
    logit); random search with squares, which needs no gradient. After the first round a row is
    hopeful if its margin that is left is at most `hope` of what attacks took away: only those
    go on.

    Args:
        first: steps of the first climb, on the cross entropy.
        steps: of the climb to each of the `finalists`, the classes of nearest border.
        finalists: how many of them.
        targets: how many classes a hopeful row is led to in the end, finalists included.
        last: steps of each climb of a hopeful row; one more is on the cross entropy.
        hope: see above; larger costs more.
        queries: of the random search, all rows.
        more: of the random search, hopeful rows.
    """

    first: int = 20
    steps: int = 50
    finalists: int = 3
    targets: int = 9
    last: int = 60
    hope: float = 0.5
    queries: int = 300
    more: int = 2000
    name: str = "Strong"

    def __post_init__(self) -> None:
        counts = (self.first, self.steps, self.finalists, self.last, self.queries, self.more)
        if min(counts) < 1 or self.targets < self.finalists or not self.hope >= 0:
            raise UsageError(
                "Strong needs all counts >= 1, targets >= finalists and hope >= 0. Got "
                f"first={self.first}, steps={self.steps}, finalists={self.finalists}, "
                f"targets={self.targets}, last={self.last}, hope={self.hope}, "
                f"queries={self.queries}, more={self.more}"
            )

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        if not isinstance(threat, LpBall):
            raise UsageError(f"Strong needs an L-infinity, L2 or L1 ball. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        logits = logits_of(model, x)
        active.judge(x, logits)
        before = active.best_objective.clone()
        cross_entropy, dlr = LOSSES["ce"], LOSSES["dlr" if logits.shape[1] > 3 else "pair"]

        def run(goal: Goal, loss: Loss, steps: int, *label: str | int) -> None:
            start = start_points(active, draws.derive(seed, *label))
            climb_from(model, active, goal, loss, steps, start)

        run(active.threat.goal, cross_entropy, self.first, "first")
        active.reopen()
        ranked = self._ranked(model, active, best_targets(logits, y, threat.goal, self.targets))
        for rank in range(min(self.finalists, ranked.shape[1])):
            active.reopen()
            run(Goal("targeted", ranked[active.index, rank]), dlr, self.steps, rank)
        active.reopen()
        Square(queries=self.queries).search(model, active, draws.derive(seed, "square"))

        for rank in range(ranked.shape[1]):
            self._hopeful(active, before)
            run(Goal("targeted", ranked[active.index, rank]), dlr, self.last, "last", rank)
        self._hopeful(active, before)
        run(active.threat.goal, cross_entropy, self.last, "ce")
        self._hopeful(active, before)
        Square(queries=self.more).search(model, active, draws.derive(seed, "more"))
        return active.best

    def _hopeful(self, active: ActiveSet, before: Tensor) -> None:
        """Make the rows active that are not won, but nearer to it than to where they began."""
        active.reopen()
        now = active.best_objective[active.index]
        active.keep(-now <= self.hope * (now - before[active.index]))

    def _ranked(self, model: Classifier, active: ActiveSet, ranked: Tensor) -> Tensor:
        """(all rows, ≤ targets) winning classes; of active rows, that of nearest border first."""
        if not len(active):
            return ranked
        assert isinstance(active.threat, LpBall)
        at, far = active.best[active.index], []
        for rank in range(ranked.shape[1]):
            goal = Goal("targeted", ranked[active.index, rank])
            grad, found = gradient(model, at, active.y, goal, pair)
            slope = torch.linalg.vector_norm(grad.flatten(1), ord=_DUAL[active.threat.norm], dim=1)
            far.append(-pair(found, active.y, goal) / slope.clamp_min(1e-12))
        order = torch.stack(far, 1).argsort(stable=True, dim=1)
        ranked[active.index] = ranked[active.index].gather(1, order)
        return ranked
