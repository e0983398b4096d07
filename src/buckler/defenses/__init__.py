"""Input transforms, each with the surrogate an adaptive attacker differentiates."""

from buckler.defenses.apply import apply, check_transform
from buckler.defenses.jpeg import JPEG
from buckler.defenses.median import Median
from buckler.defenses.names import defense
from buckler.defenses.noise import GaussianNoise
from buckler.defenses.rotation import RandomRotation

__all__ = [
    "JPEG",
    "GaussianNoise",
    "Median",
    "RandomRotation",
    "apply",
    "check_transform",
    "defense",
]
