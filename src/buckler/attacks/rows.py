"""What attacks on tables share: raw rows, the values a search tries, and what the model says."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.attacks.engine import checked_rows, logits_of
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.threats.features import FeatureSpec, FeatureThreat
from buckler.threats.features.legal import legal

Values = tuple[Tensor, ...]
"""For each feature the raw values (k,) float64 that a search may set, rising; none if immutable."""

_FINITE = 64  # whole numbers or levels of which each is tried


@dataclass(frozen=True)
class Table:
    """Rows under attack: x as the classifier sees it, `start` (n, features) as numbers."""

    model: Classifier
    x: Tensor
    y: Tensor
    threat: FeatureThreat
    start: Tensor

    def take(self, idx: Tensor) -> "Table":
        return Table(self.model, self.x[idx], self.y[idx], self.threat.take(idx), self.start[idx])

    def ask(self, owner: Tensor, raw: Tensor) -> Tensor:
        """(m,) float64 objective of raw rows (m, features), each made of the row `owner` (m,)."""
        goal = self.threat.goal.take(owner)
        x = self.threat.spec.encode(raw, like=self.x)
        return goal.objective(logits_of(self.model, x), self.y[owner]).double().cpu()

    def judge(self, owner: Tensor, raw: Tensor) -> Tensor:
        """The same, but only rows the attacker may send are asked about; the others get -inf."""
        threat, start = self.threat.take(owner), self.start[owner]
        may = legal(threat.spec, start, raw) & threat.affordable(start, raw)
        may &= (raw != start).any(1)
        objective = torch.full((len(raw),), -torch.inf, dtype=torch.float64)
        if bool(may.any()):
            objective[may] = self.ask(owner[may], raw[may])
        return objective

    def sent(self, raw: Tensor) -> Tensor:
        """The raw rows as the classifier's; x itself, to the bit, where nothing was changed."""
        same = (raw == self.start).all(1).to(self.x.device)[:, None]
        return torch.where(same, self.x, self.threat.spec.encode(raw, like=self.x))


def table(
    model: Classifier, x: Tensor, y: Tensor, threat: Threat, rows: Tensor | None, name: str
) -> tuple[Table, Tensor]:
    """The rows as a Table, and their ids.

    Raises: UsageError under a threat that is not one of tables.
    """
    if not isinstance(threat, FeatureThreat):
        raise UsageError(f"{name} needs a FeatureThreat (rules and prices). Got {threat}")
    x, rows = checked_rows(x, y, threat, rows)
    return Table(model, x, y, threat, threat.spec.decode(x)), rows


def finite_values(spec: FeatureSpec) -> Values:
    """Every value of every feature that may change.

    Raises: UsageError for a feature with values without end.
    """
    found = []
    for feature in spec.features:
        low, high = feature.ends
        if not feature.mutable:
            found.append(torch.empty(0, dtype=torch.float64))
        elif feature.levels:
            found.append(feature.values)
        elif feature.kind == "integer":
            found.append(torch.arange(low, high + 1, dtype=torch.float64))
        else:
            raise UsageError(
                f"feature {feature.name!r} has values without end: enumeration needs levels or "
                "whole numbers, or the split points of trees (values = split_values(...))"
            )
    return tuple(found)


def grid_values(spec: FeatureSpec, points: int) -> Values:
    """Every value where there are at most 64, else `points` evenly spaced over the range."""
    found = []
    for feature in spec.features:
        low, high = feature.ends
        if feature.mutable and (
            feature.kind == "real" or (not feature.levels and high - low > _FINITE)
        ):
            spaced = torch.linspace(low, high, points, dtype=torch.float64)
            found.append(spaced.float().double() if feature.kind == "real" else spaced.round())
        else:
            found += (
                finite_values(FeatureSpec((feature,)))
                if feature.derived is None
                else [torch.empty(0, dtype=torch.float64)]
            )
    return tuple(found)


def split_values(spec: FeatureSpec, splits: Sequence[Tensor]) -> Values:
    """The values that tell apart every leaf of an ensemble: each split point, and its neighbours.

    With them an enumeration over trees is exact, unless rules tie real features to each other (then
    the cheapest value inside a leaf may be one that no list holds).

    Args:
        splits: for each of the classifier's columns the thresholds (k,) the trees compare it with
            (`buckler.models.split_points`).

    Raises: UsageError if the columns are not the spec's.
    """
    if len(splits) != spec.width:
        raise UsageError(f"splits must be one a column, {spec.width}. Got {len(splits)}")
    found = []
    for feature, first in zip(spec.features, spec.starts, strict=True):
        at = splits[first].double()
        if not feature.mutable:
            found.append(at[:0])
            continue
        if feature.levels:
            found.append(feature.values)
            continue
        single, end = at.float(), torch.tensor(torch.inf)
        if feature.kind == "integer":
            near = torch.cat([at.floor(), at.ceil(), at.floor() + 1, at.ceil() - 1])
        else:
            near = torch.cat([single, torch.nextafter(single, end), torch.nextafter(single, -end)])
        low, high = feature.ends
        found.append(near.double().clamp(low, high).float().double().unique())
    return tuple(found)
