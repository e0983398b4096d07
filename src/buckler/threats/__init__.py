"""What the attacker may do."""

from buckler.threats.goal import Goal
from buckler.threats.lp import LpBall
from buckler.threats.pixels import PixelBudget

__all__ = ["Goal", "LpBall", "PixelBudget"]
