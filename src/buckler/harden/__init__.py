"""Training that holds: one loop, several objectives, the best checkpoint by robust validation."""

from buckler.harden.choose import choose_weights
from buckler.harden.loop import Hardened, harden
from buckler.harden.recipes import RECIPES, Recipe
from buckler.harden.validate import RobustValidation

__all__ = ["RECIPES", "Hardened", "Recipe", "RobustValidation", "choose_weights", "harden"]
