"""An attack together with the threat it is meant for."""

from dataclasses import dataclass

from torch import Tensor

from buckler.protocols import Attack, Classifier, Threat


@dataclass(frozen=True)
class Under:
    """The attack under a threat of its own, whatever the others of a suite do; the goal stays.

    Who counts judges its points by `threat`, not by the assessment's.
    """

    attack: Attack
    threat: Threat

    @property
    def name(self) -> str:
        return self.attack.name

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
        own = self.threat.with_goal(threat.goal)
        return self.attack(model, x, y, own, seed=seed, rows=rows)


def threat_of(attack: Attack, threat: Threat) -> Threat:
    """What the attack's points must lie inside: its own threat, if it has one."""
    return attack.threat if isinstance(attack, Under) else threat
