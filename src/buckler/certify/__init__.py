"""Guarantees, as sentences with their probability and their assumptions."""

from buckler.certify.interval import Interval
from buckler.certify.linear import Crown
from buckler.certify.proof import certified_accuracy
from buckler.certify.sequential import certify_at
from buckler.certify.smoothing import certify, plug_in_radius

__all__ = ["Crown", "Interval", "certified_accuracy", "certify", "certify_at", "plug_in_radius"]
