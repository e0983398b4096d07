"""Attack, count, judge: what stands in reports comes from here."""

from buckler.assess.battery import Battery, Effort, battery
from buckler.assess.check import judge_evidence
from buckler.assess.ledger import Ledger
from buckler.assess.run import Assessment, assess
from buckler.assess.target import Target, of_guard, of_model

__all__ = [
    "Assessment",
    "Battery",
    "Effort",
    "Ledger",
    "Target",
    "assess",
    "battery",
    "judge_evidence",
    "of_guard",
    "of_model",
]
