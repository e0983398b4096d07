"""What evasion costs a fraud team: money a week, recipes, features, alerts; values and a page."""

from buckler.assess.fraud.exposure import Exposure, measure
from buckler.assess.fraud.gate import money_item
from buckler.assess.fraud.standing import Standing, standing

__all__ = ["Exposure", "Standing", "measure", "money_item", "standing"]
