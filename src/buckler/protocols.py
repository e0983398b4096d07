"""The shapes of the parts: what each must offer, and nothing of how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import numpy as np
from torch import Tensor

from buckler.threats import Goal

Classifier = Callable[[Tensor], Tensor]
"""x (n, ...) in input units → logits (n, k). Normalisation is inside."""

Progress = Callable[[int, int], None]
"""Called with (done, total)."""


class Threat(Protocol):
    """What the attacker may do (geometry) and wants (goal)."""

    @property
    def box(self) -> tuple[float, float]: ...
    @property
    def goal(self) -> Goal: ...
    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor: ...
    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor: ...
    def project(self, x: Tensor, x_adv: Tensor) -> Tensor: ...
    def steepest(self, grad: Tensor) -> Tensor: ...
    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor: ...
    def take(self, idx: Tensor | slice) -> Self: ...
    def with_goal(self, goal: Goal) -> Self: ...
    def unbounded(self, x: Tensor) -> Self: ...
    def to_dict(self) -> dict[str, object]: ...


class Attack(Protocol):
    """A frozen dataclass of parameters. Returns candidates of x's shape and counts nothing."""

    @property
    def name(self) -> str: ...
    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor: ...


@runtime_checkable
class Defense(Protocol):
    """An input transform: same shape, dtype and box out as in.

    name: how verdicts, manifests and errors call it.
    random: whether it draws; then `keys` (n,) int64 are the addresses of its draws.
    surrogate: the differentiable stand-in of its backward pass; None where forward is
        differentiable itself. Forward is always the deployed transform.
    """

    @property
    def name(self) -> str: ...
    @property
    def random(self) -> bool: ...
    @property
    def surrogate(self) -> Callable[[Tensor], Tensor] | None: ...
    def __call__(self, x: Tensor, keys: Tensor | None = None) -> Tensor: ...


@dataclass(frozen=True)
class Features:
    """What one batched forward over all views yields; v views (the first is the input the
    members predict from), m members, n rows, k classes.

    views (v, n, ...); logits (m, v, n, k); embed (m, n, d) of the first view, or None;
    log_probs (v, n, k): the members' weighted mean probability, in logs (never saturated).
    """

    views: Tensor
    logits: Tensor
    embed: Tensor | None
    log_probs: Tensor

    @property
    def probs(self) -> Tensor:
        """(n, k) probability of the answer."""
        return self.log_probs[0].exp()


@runtime_checkable
class Detector(Protocol):
    """A frozen scorer: higher = more suspicious."""

    @property
    def name(self) -> str: ...
    def score(self, features: Features) -> Tensor: ...
    def state(self) -> Mapping[str, np.ndarray]: ...
