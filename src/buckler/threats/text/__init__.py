"""Texts: which edits, and how many."""

from buckler.threats.text.align import Spent, spent
from buckler.threats.text.edits import KINDS, Kind, TextEdits

__all__ = ["KINDS", "Kind", "Spent", "TextEdits", "spent"]
