"""Tables: what the attacker may change, under which rules, and at what price."""

from buckler.threats.features.feature import Feature, Price
from buckler.threats.features.spec import FeatureSpec, Rule
from buckler.threats.features.table import from_table, to_table
from buckler.threats.features.threat import FeatureThreat

__all__ = ["Feature", "FeatureSpec", "FeatureThreat", "Price", "Rule", "from_table", "to_table"]
