"""Guarantees, as sentences with their probability and their assumptions."""

from buckler.certify.interval import Interval
from buckler.certify.linear import Crown
from buckler.certify.masks import ABSTAINED, Masked
from buckler.certify.proof import certificates, certified_accuracy
from buckler.certify.sequential import certify_at
from buckler.certify.smoothing import certify, plug_in_radius
from buckler.certify.trees import Decisions, decide
from buckler.certify.words import certify_words

__all__ = [
    "ABSTAINED",
    "Crown",
    "Decisions",
    "Interval",
    "Masked",
    "certificates",
    "certified_accuracy",
    "certify",
    "certify_at",
    "certify_words",
    "decide",
    "plug_in_radius",
]
