"""Guarantees, as sentences with their probability and their assumptions."""

from buckler.certify.smoothing import certify, plug_in_radius

__all__ = ["certify", "plug_in_radius"]
