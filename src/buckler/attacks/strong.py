"""The strongest attack for its price: effort goes where a row is likely to fall."""

from dataclasses import dataclass

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.apgd import best_targets, climb, surface_point
from buckler.attacks.engine import ActiveSet, gradient, logits_of
from buckler.attacks.square import Square
from buckler.errors import UsageError
from buckler.losses import LOSSES, pair
from buckler.protocols import Classifier, Threat
from buckler.threats import Goal, LpBall


@dataclass
class Strong:
    first: int = 20
    steps: int = 50
    targets: int = 9
    finalists: int = 3
    hope: float = 0.5
    last: int = 100
    queries: int = 300
    more: int = 1000
    name: str = "Strong"

    def __call__(self, model, x, y, threat, *, seed=0, rows=None):
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        logits = logits_of(model, x)
        active.judge(x, logits)
        gap0 = -active.best_objective.clone()
        log = self.log = []
        def note(what):
            gap = -active.best_objective
            log.append((what, int((gap >= 0).sum()), active.best_objective.clone(), getattr(model,'forwards',0), getattr(model,'backwards',0)))
        note('clean')
        climb(model, active, threat_goal(active), LOSSES["ce"], surface_point(active, draws.derive(seed, "ce")), self.first)
        note('ce')
        active.reopen()
        if not len(active): return active.best
        order = self._order(model, active, logits)   # over all rows
        dlr = LOSSES["dlr"] if logits.shape[1] > 3 else LOSSES["pair"]
        for rank in range(self.finalists):
            active.reopen(); 
            if not len(active): return active.best
            goal = Goal("targeted", order[active.index, rank])
            climb(model, active, goal, dlr, surface_point(active, draws.derive(seed, rank)), self.steps)
            note('t%d' % rank)
        for rank in range(self.finalists, order.shape[1]):
            self._open(active, gap0, self.hope)
            if len(active):
                goal = Goal("targeted", order[active.index, rank])
                climb(model, active, goal, dlr, surface_point(active, draws.derive(seed, rank)), self.first)
            note('t%d' % rank)
        self._open(active, gap0, self.hope)
        if len(active):
            goal = Goal("targeted", order[active.index, 0])
            climb(model, active, goal, dlr, surface_point(active, draws.derive(seed, 'last')), self.last)
        note('last')
        active.reopen()
        if len(active):
            Square(queries=self.queries)._search(model, active, draws.derive(seed, 's'))
        note('square')
        self._open(active, gap0, self.hope)
        if len(active):
            Square(queries=self.more)._search(model, active, draws.derive(seed, 'm'))
        note('square+')
        return active.best

    def _open(self, active, gap0, hope):
        active.reopen()
        gap = -active.best_objective[active.index]
        active.keep(gap <= hope * (gap0[active.index] - gap))

    def _order(self, model, active, logits):
        """(all rows, targets) classes, the one whose border is nearest to first order first."""
        goal = active.threat.goal
        _, y_all, _, _ = active._all
        ranked = best_targets(logits, y_all, goal, self.targets)
        at = active.best[active.index]
        power = {"linf": 1, "l2": 2, "l1": torch.inf}[active.threat.norm]
        far = []
        for rank in range(ranked.shape[1]):
            aim = Goal("targeted", ranked[active.index, rank])
            grad, z = gradient(model, at, active.y, aim, pair)
            far.append(-pair(z, active.y, aim) / torch.linalg.vector_norm(grad.flatten(1), ord=power, dim=1).clamp_min(1e-12))
        order = torch.stack(far, 1).argsort(1)
        ranked[active.index] = ranked[active.index].gather(1, order)
        return ranked


def threat_goal(active):
    return active.threat.goal
