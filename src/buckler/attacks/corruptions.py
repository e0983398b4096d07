"""The worst of the common corruptions, at the least severity that wins."""

from dataclasses import dataclass

from torch import Tensor

from buckler import draws
from buckler.attacks.engine import ActiveSet, logits_of
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.corruption import Corruption


@dataclass(frozen=True)
class Corruptions:
    """Every kind at severity 1, then at 2 for the rows that hold, and so on to the threat's own.

    (Hendrycks and Dietterich 2019, arXiv:1903.12261, who average over corruptions; here the worst
    counts.) Which kinds and how severe is the threat's to say.

    Args:
        tries: draws of each kind and severity, for the kinds that draw.
    """

    tries: int = 1
    name: str = "Corruptions"

    def __post_init__(self) -> None:
        if self.tries < 1:
            raise UsageError(f"Corruptions needs tries >= 1. Got {self.tries}")

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
        if not isinstance(threat, Corruption):
            raise UsageError(f"Corruptions needs a Corruption threat. Got {threat}")
        active = ActiveSet(x, y, threat, rows)
        if not len(active):
            return active.best
        active.judge(x, logits_of(model, x))
        for severity in range(1, threat.severity + 1):
            for kind in threat.kinds:
                for attempt in range(self.tries):
                    if not len(active):
                        return active.best
                    own = draws.derive(seed, attempt)
                    point = threat.corrupt(active.x, kind, severity, own, active.rows)
                    active.judge(point, logits_of(model, point))
        return active.best
