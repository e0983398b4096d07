"""Defences of texts: functions text → text before a classifier."""

from buckler.defenses.text.normaliser import Normalised, Normaliser, Span
from buckler.defenses.text.spelling import Lexicon

__all__ = ["Lexicon", "Normalised", "Normaliser", "Span"]
