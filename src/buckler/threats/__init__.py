"""What the attacker may do."""

from buckler.threats.colour import Colour
from buckler.threats.corruption import Corruption
from buckler.threats.features import FeatureSpec, FeatureThreat
from buckler.threats.goal import Goal
from buckler.threats.lp import LpBall
from buckler.threats.patch import Patch
from buckler.threats.pixels import PixelBudget
from buckler.threats.spatial import Spatial
from buckler.threats.sticker import Sticker
from buckler.threats.text import TextEdits

__all__ = [
    "Colour",
    "Corruption",
    "FeatureSpec",
    "FeatureThreat",
    "Goal",
    "LpBall",
    "Patch",
    "PixelBudget",
    "Spatial",
    "Sticker",
    "TextEdits",
]
