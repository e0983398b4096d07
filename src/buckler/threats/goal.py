"""What counts as a win for the attacker, as a value."""

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from buckler.errors import UsageError

Kind = Literal["untargeted", "targeted", "guarded", "denial"]


@dataclass(frozen=True)
class Goal:
    """The classes with which the attacker wins, given the true class.

    untargeted: every class but the true one.
    targeted: the class of `target`, one for all rows or one a row.
    guarded: every class but the true one and the last, "rejected" (the guard's attack view).
    denial: the last class, "rejected": the attacker floods the review queue.
    """

    kind: Kind = "untargeted"
    target: int | Tensor | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"kind must be one of {', '.join(get_args(Kind))}. Got {self.kind!r}")
        if (self.kind == "targeted") != (self.target is not None):
            raise UsageError(
                f"a target goes with kind 'targeted' and with no other. "
                f"Got kind {self.kind!r} and target {self.target!r}"
            )

    def allowed(self, y: Tensor, classes: int) -> Tensor:
        """(n, classes) bool: the answers with which the attacker has won; y is the truth."""
        everything = torch.arange(classes, device=y.device).expand(len(y), classes)
        if self.kind == "targeted":
            target = torch.as_tensor(self.target, device=y.device)
            if bool(((target < 0) | (target >= classes)).any()):
                raise UsageError(f"target must be a class, 0 to {classes - 1}. Got {self.target}")
            return everything == target.expand(len(y))[:, None]
        if self.kind == "denial":
            return everything == classes - 1
        wrong = everything != y[:, None]
        if self.kind == "guarded":
            wrong = wrong & (everything != classes - 1)
        return wrong

    def objective(self, logits: Tensor, y: Tensor) -> Tensor:
        """(n,) best allowed logit − best other logit: > 0 exactly where the attacker has won."""
        if self.kind in ("untargeted", "targeted"):  # one class against the rest, the usual case
            one = y if self.target is None else torch.as_tensor(self.target, device=y.device)
            return self._one_against_rest(logits, one.expand(len(y))[:, None])
        allowed = self.allowed(y, logits.shape[1])
        best_allowed = logits.masked_fill(~allowed, -torch.inf).amax(1)
        best_other = logits.masked_fill(allowed, -torch.inf).amax(1)
        return best_allowed - best_other

    def _one_against_rest(self, logits: Tensor, one: Tensor) -> Tensor:
        if bool(((one < 0) | (one >= logits.shape[1])).any()):
            name = "y" if self.target is None else "target"
            got = sorted(set(one.flatten().tolist()))[:10]
            raise UsageError(f"{name} must be a class, 0 to {logits.shape[1] - 1}. Got {got}")
        own = logits.gather(1, one)[:, 0]
        rest = logits.scatter(1, one, -torch.inf).amax(1)
        return own - rest if self.kind == "targeted" else rest - own

    def take(self, idx: Tensor | slice) -> Self:
        """The goal of some of the rows."""
        if isinstance(self.target, Tensor) and self.target.ndim == 1:
            return type(self)(self.kind, self.target[idx])
        return self
