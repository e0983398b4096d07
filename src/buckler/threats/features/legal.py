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
    out, wide = start.clone(), spec.numeric
    before = start[:, wide.at]
    column = _onward(spec, before, torch.where(torch.isfinite(raw), raw, start)[:, wide.at])
    nearest = torch.minimum(torch.maximum(column, wide.low), wide.high)
    # Through float32, so that what the classifier sees is what was judged.
    nearest = torch.where(wide.whole, nearest.round(), nearest.float().double())
    out[:, wide.at] = torch.where(column == before, before, nearest)
    for index in spec.levelled:
        feature, first = spec.features[index], start[:, index]
        asked = torch.where(torch.isfinite(raw[:, index]), raw[:, index], first)
        if feature.change in ("up", "down"):
            asked = (torch.maximum if feature.change == "up" else torch.minimum)(asked, first)
        near = feature.values[feature.ranks(asked)]
        out[:, index] = torch.where(asked == first, first, near)
    return complete(spec, start, out)


def _onward(spec: FeatureSpec, before: Tensor, column: Tensor) -> Tensor:
    """The columns of `spec.numeric`, none against its direction."""
    column = torch.where(spec.numeric.up, torch.maximum(column, before), column)
    return torch.where(spec.numeric.down, torch.minimum(column, before), column)


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
    fine, wide = torch.isfinite(raw).all(1), spec.numeric
    fixed = list(spec.fixed)
    fine &= (raw[:, fixed] == start[:, fixed]).all(1)
    before, after = start[:, wide.at], raw[:, wide.at]
    right = after >= wide.low - _SLACK * wide.low.abs()
    right &= after <= wide.high + _SLACK * wide.high.abs()
    right &= ~wide.whole | (after == after.round())
    right &= _onward(spec, before, after) == after
    fine &= (right | (after == before)).all(1)
    for index in spec.levelled:
        feature, old, new = spec.features[index], start[:, index], raw[:, index]
        known = torch.isin(new, feature.values)
        if feature.change in ("up", "down"):
            known &= (new > old) if feature.change == "up" else (new < old)
        fine &= known | (new == old)
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
