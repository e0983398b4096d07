"""Which raw rows the attacker may send: types, ranges, directions, derived columns, rules."""

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.threats.features import expression
from buckler.threats.features.spec import FeatureSpec
from buckler.threats.features.table import to_table

_SLACK = expression.SLACK


def snap(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    """`raw` (n, features) with each changed value moved to the nearest one of its own feature that
    is allowed from `start`; what cannot be changed is put back, what is derived is recomputed."""
    out = start.clone()
    for index in spec.mutable:
        feature, before = spec.features[index], start[:, index]
        column = torch.where(torch.isfinite(raw[:, index]), raw[:, index], before)
        if feature.change in ("up", "down"):
            ahead = torch.maximum if feature.change == "up" else torch.minimum
            column = ahead(column, before)
        if feature.levels:
            nearest = feature.values[feature.ranks(column)]
        else:
            low, high = feature.ends
            nearest = column.clamp(low, high)
            # Through float32, so that what the classifier sees is what was judged.
            nearest = nearest.round() if feature.kind == "integer" else nearest.float().double()
        out[:, index] = torch.where(column == before, before, nearest)
    return complete(spec, start, out)


def complete(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    """`raw` with each derived column recomputed where something it is made of has changed."""
    if not spec.formulas:
        return raw
    raw = raw.clone()
    for index, tree in spec.formulas:
        inputs = [spec.names.index(name) for name in expression.names(tree)]
        moved = (raw[:, inputs] != start[:, inputs]).any(1)
        fresh = expression.value(tree, spec.columns(raw)).expand(len(raw)).float().double()
        raw[:, index] = torch.where(moved, fresh, start[:, index])
    return raw


def legal(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    """(n,) bool: the attacker may turn the raw row `start` into `raw`, whatever it costs.

    A value that is not changed may lie outside its range; a rule must hold even where the clean row
    breaks it. To change nothing is always allowed.
    """
    return _values(spec, start, raw) & rules(spec, raw) | (raw == start).all(1)


def _values(spec: FeatureSpec, start: Tensor, raw: Tensor) -> Tensor:
    fine = torch.isfinite(raw).all(1)
    for index, feature in enumerate(spec.features):
        before, after = start[:, index], raw[:, index]
        if feature.derived is not None:
            continue
        same = after == before
        if not feature.mutable:
            fine &= same
            continue
        if feature.levels:
            right = torch.isin(after, feature.values)
        else:
            low, high = (
                end + sign * _SLACK * abs(end)
                for end, sign in zip(feature.ends, (-1, 1), strict=True)
            )
            right = (after >= low) & (after <= high)
            if feature.kind == "integer":
                right &= after == after.round()
        if feature.change in ("up", "down"):
            right &= (after > before) if feature.change == "up" else (after < before)
        fine &= same | right
    expected = complete(spec, start, raw)
    return fine & ((expected - raw).abs() <= _SLACK * expected.abs() + 1e-9).all(1)


def rules(spec: FeatureSpec, raw: Tensor) -> Tensor:
    """(n,) bool: the row keeps every rule and the predicate."""
    columns = spec.columns(raw)
    kept = torch.ones(len(raw), dtype=torch.bool)
    for rule in spec.compiled:
        kept &= rule.holds(columns)
    if spec.predicate is not None and len(raw):
        # The callback may be slow: it is asked only about rows that pass all else.
        asked = kept.nonzero()[:, 0]
        kept[asked] &= predicate(spec, raw[asked])
    return kept


def predicate(spec: FeatureSpec, raw: Tensor) -> Tensor:
    """(n,) bool: what the callback says.

    Raises: UsageError if it does not answer with one truth a row.
    """
    assert spec.predicate is not None
    answer = torch.as_tensor(spec.predicate(to_table(spec, raw)))
    if answer.shape != (len(raw),) or answer.dtype != torch.bool:
        raise UsageError(
            f"predicate must return one bool a row, ({len(raw)},). "
            f"Got {tuple(answer.shape)} {answer.dtype}"
        )
    return answer
