"""What all checks look at: the rows, the attackers' view, and what the white-box attack broke."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from buckler.assess.target import Target
from buckler.attacks import PGD, Randomised, Square, draws_each_row
from buckler.attacks.engine import gradient, logits_of
from buckler.errors import UsageError
from buckler.losses import Loss
from buckler.protocols import Attack, Classifier
from buckler.threats import LpBall

_ASKED = 10  # answers of a random model behind one verdict on a row
_DRAWS = 20  # as in AutoAttack's version for random models
_MOVED = 1e-4  # of the logits' largest: more than kernels' last bits


@dataclass(frozen=True)
class Effort:
    """How much each check may cost. Checks on other attackers look at rows that stood alone.

    rows: at most, of those the target gets right. steps: of the white-box attack.
    queries: of Square. noise_rows, noise: rows and draws of plain noise. decision_rows,
    decision_queries: of HopSkipJump. points: rows of the binarization test. again: how many times
    the steps, and how many restarts, a second look takes.
    """

    rows: int = 200
    steps: int = 40
    queries: int = 1000
    noise_rows: int = 100
    noise: int = 10_000
    decision_rows: int = 50
    decision_queries: int = 1000
    points: int = 50
    again: int = 10

    def __post_init__(self) -> None:
        if min(vars(self).values()) < 1:
            raise UsageError(f"every count of an effort must be >= 1. Got {self}")
        if self.steps < 20:
            raise UsageError(f"the battery's attack needs steps >= 20. Got {self.steps}")


@dataclass(frozen=True)
class Scene:
    """The target's view on rows it gets right, x (n, ...), y (n,), under one threat.

    gradients: whether any reach x; without, the main attacker is Square.
    random: answers depend on draws; then `view` is the mean of several (EOT).
    undefended: the model before it was defended, where there is one.
    """

    target: Target
    view: Classifier
    x: Tensor
    y: Tensor
    threat: LpBall
    seed: int
    effort: Effort
    gradients: bool
    random: bool
    undefended: Target | None = None

    @property
    def n(self) -> int:
        return len(self.x)

    @property
    def limit(self) -> int:
        """Rows that may stay unbroken by the white-box attack though another broke them."""
        return max(self.n // 100, 3)

    @property
    def guarded(self) -> bool:
        return self.target.goal.kind == "guarded"

    @property
    def grid(self) -> float:
        """The step of the grid that the view snaps x to, in input units; 0 where it does not."""
        low, high = self.threat.box
        levels = self.target.spec.levels if self.guarded else 0
        return (high - low) / (levels - 1) if levels else 0.0

    def slope(self, loss: Loss, x: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n, ...) the gradient of a loss in x, and the logits there."""
        return gradient(self.view, self.x if x is None else x, self.y, self.threat.goal, loss)

    def objective(self, x: Tensor, y: Tensor) -> Tensor:
        """(n,) > 0 where the attacker wins in the view."""
        return self.threat.goal.objective(logits_of(self.view, x), y)

    def won(self, x_adv: Tensor, y: Tensor) -> Tensor:
        """(n,) bool; of a random model in most of ten answers, for one lucky draw is no success."""
        times = _ASKED if self.random else 1
        wins = sum((self.objective(x_adv, y) > 0).float() for _ in range(times))
        return torch.as_tensor(wins) > times / 2

    def broken(
        self, attack: Attack, among: Tensor | None = None, threat: LpBall | None = None
    ) -> Tensor:
        """(n,) bool: rows of `among` (default: all) that the attack breaks."""
        at = torch.arange(self.n) if among is None else among.nonzero()[:, 0]
        found = torch.zeros(self.n, dtype=torch.bool)
        if len(at):
            x_adv = self.attacked(attack, at, threat)
            found[at] = self.won(x_adv, self.y[at])
        return found

    def attacked(self, attack: Attack, at: Tensor, threat: LpBall | None = None) -> Tensor:
        """The attack's points for the rows `at`."""
        reach = (threat or self.threat).take(at)
        return attack(self.view, self.x[at], self.y[at], reach, seed=self.seed, rows=at)


def set_up(
    target: Target,
    x: Tensor,
    y: Tensor,
    threat: LpBall,
    effort: Effort,
    seed: int,
    undefended: Target | None,
) -> Scene:
    """The scene of a battery.

    Raises: UsageError if the target gets none of the rows right.
    """
    predicted, _ = target.answer(x)
    right = (predicted == y).nonzero()[: effort.rows, 0]
    if not len(right):
        raise UsageError("the battery needs rows the model gets right. Got none")
    threat = threat.take(right).with_goal(target.goal)
    view, random = target.view, target.random
    if not random and varies(view, x[right]) > _MOVED:
        view, random = Randomised(view, _DRAWS, draws_each_row(view, x[right])), True
    x, y = x[right], y[right]
    return Scene(target, view, x, y, threat, seed, effort, target.gradients, random, undefended)


def varies(view: Classifier, x: Tensor) -> float:
    """Largest change of a logit between five answers to the same rows, of the largest logit."""
    with torch.no_grad():
        first, *more = (view(x[:64]) for _ in range(5))
    scale = first.abs().amax().clamp_min(1e-12)
    return max(float((other - first).abs().amax() / scale) for other in more)


@dataclass
class Recorder:
    """A view that keeps the objective of every row it is asked for with a gradient, in order."""

    view: Classifier
    scene: Scene
    seen: list[Tensor] = field(default_factory=list)

    def __call__(self, x: Tensor) -> Tensor:
        logits = self.view(x)
        asked = sum(len(part) for part in self.seen) % self.scene.n
        y = self.scene.y[asked : asked + len(x)]
        goal = self.scene.threat.goal
        self.seen.append(goal.objective(logits.detach(), y))
        return logits

    def path(self) -> Tensor:
        """(steps + 1, n)"""
        return torch.cat(self.seen).reshape(-1, self.scene.n)


@dataclass(frozen=True)
class Main:
    """What the main attack did: PGD on two losses where there are gradients, else Square.

    ce, margin: (n,) bool, broken by each; points: (n, ...) of the second.
    path: (steps + 1, n) the objective along the way of the second; None for Square.
    """

    ce: Tensor
    margin: Tensor
    points: Tensor
    path: Tensor | None

    @property
    def broken(self) -> Tensor:
        return self.ce | self.margin


def climb(steps: int, restarts: int = 1, loss: str = "selective") -> PGD:
    """The white-box attack; "selective" is the margin where nothing can be rejected."""
    size = 0.5 if loss == "ce" else 0.25
    return PGD(steps=steps, step_size=size, restarts=restarts, loss=loss, decay=True)


def main_attack(scene: Scene) -> Main:
    """Attack every row once with all the battery's usual effort."""
    every, effort = torch.arange(scene.n), scene.effort
    if not scene.gradients:
        points = scene.attacked(Square(queries=effort.queries), every)
        won = scene.won(points, scene.y)
        return Main(won, won, points, None)
    ce = scene.broken(climb(effort.steps, loss="ce"))
    recorder = Recorder(scene.view, scene)
    seen = replace(scene, view=recorder)
    points = seen.attacked(replace(climb(effort.steps), stop=False), every)
    return Main(ce, scene.won(points, scene.y), points, recorder.path())
