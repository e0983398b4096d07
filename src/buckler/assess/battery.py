"""Is this evaluation to be believed? Signs of masked gradients.

A gradient's size says nothing: it depends on the loss, the scale of the logits and the batch, and
honest robust nets have small ones. These are signs of behaviour (Athalye et al. 2018,
arXiv:1802.00420; Carlini et al. 2019, arXiv:1902.06705; Croce and Hein 2020, arXiv:2003.01690).
The verdict is on the evaluation, not on the model.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from buckler.assess.target import Target
from buckler.attacks import FGSM, PGD, Square
from buckler.attacks.engine import gradient
from buckler.errors import UsageError
from buckler.losses import cross_entropy, margin
from buckler.protocols import Attack, Threat

Mark = Literal["pass", "warn", "fail"]


@dataclass(frozen=True)
class Sign:
    """One sign: what was seen, and the limit beyond which it warns or fails."""

    name: str
    value: float
    limit: str
    mark: Mark
    meaning: str


@dataclass(frozen=True)
class Battery:
    """All signs over n rows. `believable` is False if any failed; `random` asks for EOT."""

    n: int
    signs: tuple[Sign, ...]

    @property
    def believable(self) -> bool:
        return all(sign.mark != "fail" for sign in self.signs)

    @property
    def random(self) -> bool:
        return any(sign.name == "randomness" and sign.mark != "pass" for sign in self.signs)

    @property
    def sentence(self) -> str:
        failed = [sign.meaning for sign in self.signs if sign.mark == "fail"]
        if failed:
            return f"Do not believe this evaluation: {'; '.join(failed)}."
        if self.random:
            return "The model answers at random: only figures under EOT mean anything."
        return "No sign of masked gradients."

    def to_dict(self) -> dict[str, object]:
        return {
            "n": self.n,
            "believable": self.believable,
            "sentence": self.sentence,
            "signs": [asdict(sign) for sign in self.signs],
        }


def battery(
    target: Target, x: Tensor, y: Tensor, threat: Threat, *, seed: int = 0, queries: int = 1000
) -> Battery:
    """Look for masked gradients on x (n, ...), y (n,): a few hundred rows suffice.

    Raises: UsageError if the target gets none of the rows right.
    """
    predicted, _ = target.answer(x)
    right = (predicted == y).nonzero()[:, 0]
    if not len(right):
        raise UsageError("the battery needs rows the model gets right. Got none")
    run = _Run(target, x[right], y[right], threat.take(right).with_goal(target.goal), seed)
    signs = [run.randomness(), run.zero_gradients()]
    if signs[-1].value >= 0:  # a gradient exists at all
        ce = run.broken(PGD(steps=40, step_size=0.5, loss="ce", decay=True))
        hinge = run.broken(PGD(steps=40, step_size=0.25, loss="selective", decay=True))
        signs.append(run.saturation(ce, hinge))
        signs.append(run.beaten("FGSM", FGSM(), ce | hinge, 0.02))
        signs.append(run.beaten("Square", Square(queries=queries), ce | hinge, 0.002))
        signs.append(run.unbounded())
    return Battery(len(right), tuple(signs))


@dataclass(frozen=True)
class _Run:
    target: Target
    x: Tensor
    y: Tensor
    threat: Threat
    seed: int

    def broken(self, attack: Attack, threat: Threat | None = None) -> Tensor:
        """(n,) bool: the attack's point wins when the view is asked again."""
        threat = threat or self.threat
        x_adv = attack(self.target.view, self.x, self.y, threat, seed=self.seed)
        with torch.no_grad():
            return threat.goal.objective(self.target.view(x_adv), self.y) > 0

    def randomness(self) -> Sign:
        with torch.no_grad():
            first, *more = (self.target.view(self.x) for _ in range(4))
        scale = first.abs().amax().clamp_min(1e-12)
        spread = max(float((other - first).abs().amax() / scale) for other in more)
        mark: Mark = "warn" if spread > 1e-4 or self.target.random else "pass"
        meaning = "the same input gets other logits each time: attack it by EOT"
        return Sign("randomness", spread, "relative change > 1e-4 warns", mark, meaning)

    def zero_gradients(self) -> Sign:
        meaning = "the gradient is exactly zero or missing: gradient attacks are blind"
        name, limit = "zero gradients", "any warns, > 5 % of rows fails (worse of CE and margin)"
        worst = 0.0
        for loss in (cross_entropy, margin):
            try:
                grad, _ = gradient(self.target.view, self.x, self.y, self.threat.goal, loss)
            except UsageError:
                return Sign(name, -1.0, limit, "fail", meaning)
            worst = max(worst, float((grad.flatten(1) == 0).all(1).float().mean()))
        mark: Mark = "fail" if worst > 0.05 else "warn" if worst > 0 else "pass"
        return Sign(name, worst, limit, mark, meaning)

    def saturation(self, ce: Tensor, hinge: Tensor) -> Sign:
        gap = float(hinge.float().mean() - ce.float().mean())
        return Sign(
            "cross entropy against margin",
            gap,
            "PGD on the margin breaks > 5 points more than on CE: fails",
            "fail" if gap > 0.05 else "pass",
            "the logits saturate the cross entropy: figures from it are too kind",
        )

    def beaten(self, name: str, attack: Attack, pgd: Tensor, share: float) -> Sign:
        """Rows that a weaker attack breaks and PGD does not."""
        extra = self.broken(attack) & ~pgd
        rate = float(extra.float().mean())
        fails = rate > share and int(extra.sum()) >= 2
        return Sign(
            f"{name} beats PGD",
            rate,
            f"> {share:.1%} of rows, and 2 or more: fails",
            "fail" if fails else "pass",
            f"{name} breaks rows that PGD does not: its gradients mislead",
        )

    def unbounded(self) -> Sign:
        attack = PGD(steps=50, step_size=0.25, loss="selective", restarts=2, decay=True)
        won = float(self.broken(attack, self.threat.unbounded(self.x)).float().mean())
        return Sign(
            "unbounded attack",
            won,
            "< 95 % success fails",
            "fail" if won < 0.95 else "pass",
            "even an attack without a bound does not win: the attack is broken, not the model safe",
        )
