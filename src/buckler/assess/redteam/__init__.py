"""Attacks from outside on what runs, within a budget, with every query written down."""

from buckler.assess.redteam.findings import Replay, read_finding, replay
from buckler.assess.redteam.plan import OVER, Plan
from buckler.assess.redteam.run import redteam
from buckler.assess.redteam.subject import Subject, check_host, endpoint

__all__ = [
    "OVER",
    "Plan",
    "Replay",
    "Subject",
    "check_host",
    "endpoint",
    "read_finding",
    "redteam",
    "replay",
]
