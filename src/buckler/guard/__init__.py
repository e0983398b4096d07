"""The defended classifier: transforms → members → detectors → verdict."""

from buckler.guard.build import article, calibrate
from buckler.guard.bundle import load_bundle, write_bundle
from buckler.guard.core import Guard
from buckler.guard.costs import Cheapest, Costs, cheapest
from buckler.guard.rule import Calibrated

__all__ = [
    "Calibrated",
    "Cheapest",
    "Costs",
    "Guard",
    "article",
    "calibrate",
    "cheapest",
    "load_bundle",
    "write_bundle",
]
