"""Training that holds: one loop, several objectives, the best checkpoint by robust validation."""

from buckler.harden.boosting import BoostingRecipe, harden_boosting
from buckler.harden.certified import Certified, shi_initialise
from buckler.harden.choose import Mixture, choose_weights, transfer_matrix
from buckler.harden.choose_detectors import Scores, choose_detectors, usual_scores
from buckler.harden.estimate import Estimate, estimate, within
from buckler.harden.loop import Hardened, harden
from buckler.harden.occluded import MaskedValidation, Occluded
from buckler.harden.recipes import RECIPES, Recipe
from buckler.harden.tables import Evaded, EvadedValidation
from buckler.harden.texts import TextRecipe, harden_texts
from buckler.harden.validate import RobustValidation

__all__ = [
    "RECIPES",
    "BoostingRecipe",
    "Certified",
    "Estimate",
    "Evaded",
    "EvadedValidation",
    "Hardened",
    "MaskedValidation",
    "Mixture",
    "Occluded",
    "Recipe",
    "RobustValidation",
    "Scores",
    "TextRecipe",
    "choose_detectors",
    "choose_weights",
    "estimate",
    "harden",
    "harden_boosting",
    "harden_texts",
    "shi_initialise",
    "transfer_matrix",
    "usual_scores",
    "within",
]
