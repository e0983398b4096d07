"""Guarantees, as sentences with their probability and their assumptions."""

from buckler.certify.interval import Interval, certified_accuracy
from buckler.certify.smoothing import certify, plug_in_radius

__all__ = ["Interval", "certified_accuracy", "certify", "plug_in_radius"]
