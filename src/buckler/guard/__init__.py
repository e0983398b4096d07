"""The defended classifier: transforms → members → detectors → verdict."""

from buckler.guard.build import article, calibrate
from buckler.guard.bundle import load_bundle, write_bundle
from buckler.guard.core import Guard

__all__ = ["Guard", "article", "calibrate", "load_bundle", "write_bundle"]
