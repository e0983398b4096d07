"""The second opinion: each adversarial row against the spec as written, one row at a time.

Shares no arithmetic with the attacks' own checks: it reads the declaration, in plain Python over
named values, so that a slip there shows here. A row that fails is not counted as an evasion.
"""

import ast
import math
from collections.abc import Mapping

from torch import Tensor

from buckler.threats.features.expression import parse
from buckler.threats.features.feature import Feature, Price
from buckler.threats.features.spec import FeatureSpec
from buckler.threats.features.threat import FeatureThreat

Value = str | float
Row = dict[str, Value]
_NEAR = 2e-6  # relative; float32 keeps 6e-8, sums of columns lose some more


def validate(threat: FeatureThreat, x: Tensor, x_adv: Tensor) -> list[list[str]]:
    """What is wrong with each row of x_adv as a change of x, in sentences; [] where it is fine."""
    spec = threat.spec
    budgets = _per_row(threat.budget, len(x))
    found: list[list[str]] = []
    for before, after, budget in zip(x.tolist(), x_adv.tolist(), budgets, strict=True):
        if before == after:
            found.append([])
            continue
        first, _ = named(spec, before)
        row, wrong = named(spec, after)
        wrong = wrong or problems(spec, first, row)
        found.append(wrong or _unpaid(threat, first, row, budget))
    return found


def named(spec: FeatureSpec, values: list[float]) -> tuple[Row, list[str]]:
    """A classifier's row as named values, and what in it is no value of its column."""
    row: Row = {}
    wrong, at = [], 0
    for feature in spec.features:
        part = values[at : at + feature.wide]
        at += feature.wide
        if feature.onehot:
            if sorted(part) != [0.0] * (len(part) - 1) + [1.0]:
                wrong.append(f"{feature.name}: exactly one level must be 1, the others 0: {part}")
            row[feature.name] = feature.levels[part.index(max(part))]
        elif feature.levels and isinstance(feature.levels[0], str):
            if part[0] not in range(len(feature.levels)):
                wrong.append(f"{feature.name}: {part[0]} is no level")
                row[feature.name] = part[0]
            else:
                row[feature.name] = feature.levels[int(part[0])]
        else:
            row[feature.name] = part[0]
    return row, wrong


def problems(
    spec: FeatureSpec, before: Mapping[str, Value], after: Mapping[str, Value]
) -> list[str]:
    """What the spec, whatever the budget, has against the row `after` in place of `before`."""
    found = []
    for feature in spec.features:
        said = _value(feature, before, after)
        if said:
            found.append(f"{feature.name}: {said}")
    for rule in spec.rules:
        where = f"rule {rule}"
        if rule.given is not None and not _truth(spec, parse(rule.given, where), after):
            continue
        if not _truth(spec, parse(rule.then, where), after):
            found.append(f"breaks {where}")
    if not found and spec.predicate is not None:
        import numpy as np

        if not bool(np.all(spec.predicate({name: np.array([v]) for name, v in after.items()}))):
            found.append("the predicate refuses the row")
    return found


def _value(feature: Feature, before: Mapping[str, Value], after: Mapping[str, Value]) -> str | None:
    old, new = before[feature.name], after[feature.name]
    if feature.derived is not None:
        tree = parse(feature.derived, feature.name)
        inputs = [
            node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in after
        ]
        if all(before[name] == after[name] for name in inputs):
            return None if old == new else f"{new} though nothing it is made of has changed"
        expected = _number(tree, after)
        return None if _close(expected, float(new)) else f"{new}, but computed {expected}"
    if old == new:
        return None
    if feature.change == "none":
        return f"must not change, went from {old} to {new}"
    place = [_place(feature, value) for value in (old, new)]
    if place[1] is None:
        return f"{new} is not one of its levels"
    if feature.kind == "integer" and float(new) != math.floor(float(new)):
        return f"{new} is not whole"
    if not feature.levels and not feature.low <= float(new) <= feature.high:
        end = feature.low if float(new) < feature.low else feature.high
        if not _close(end, float(new)):
            return f"{new} is outside {feature.low:g} to {feature.high:g}"
    if place[0] is not None and feature.change == ("down" if place[1] > place[0] else "up"):
        return f"may only go {feature.change}, went from {old} to {new}"
    return None


def _place(feature: Feature, value: Value) -> float | None:
    """Where a value stands: itself, or its level's place; None if it is no level."""
    if not feature.levels:
        return float(value)
    for rank, level in enumerate(feature.levels):
        if level == value or (not isinstance(level, str) and _close(level, float(value))):
            return float(rank)
    return None


def _unpaid(threat: FeatureThreat, before: Row, after: Row, budget: float) -> list[str]:
    """Why the change cannot be paid."""
    each = [
        (feature, before[feature.name], after[feature.name])
        for feature in threat.spec.features
        if feature.derived is None and before[feature.name] != after[feature.name]
    ]
    if threat.unit == "money":
        spent = sum(money(*change) for change in each)
        if threat.profit:
            gain = float(before[str(threat.spec.gain)])
            if gain - spent <= 0:
                return [f"costs {spent:.6g} and gains {gain:.6g}: no profit"]
    else:
        spent = _length(threat.unit, each)
    over = spent > budget * 1.00002 + 2e-7
    return [f"spends {spent:.9g} {threat.unit} of {budget:.9g}"] if over else []


def money(feature: Feature, before: Value, after: Value) -> float:
    """What one change costs."""
    tag = feature.price or Price()
    if feature.kind == "category":
        pair = (str(before), str(after))
        return tag.pairs.get(pair, tag.to.get(pair[1], tag.change))
    here, there = _place(feature, before), _place(feature, after)
    assert here is not None
    assert there is not None
    return tag.change + (tag.up * (there - here) if there > here else tag.down * (here - there))


def _length(unit: str, each: list[tuple[Feature, Value, Value]]) -> float:
    if unit == "changes":
        return len(each)
    shares = []
    for feature, before, after in each:
        if feature.kind == "category":
            shares += [1.0, 1.0]  # two one-hot columns move
            continue
        here, there = _place(feature, before), _place(feature, after)
        assert here is not None
        assert there is not None
        wide = len(feature.levels) - 1 if feature.levels else feature.high - feature.low
        shares.append(abs(there - here) / (wide or 1.0))
    if unit == "linf":
        return max(shares, default=0.0)
    return sum(shares) if unit == "l1" else math.hypot(*shares)


def _truth(spec: FeatureSpec, tree: ast.expr, row: Mapping[str, Value]) -> bool:
    if isinstance(tree, ast.BoolOp):
        test = all if isinstance(tree.op, ast.And) else any
        return test(_truth(spec, part, row) for part in tree.values)
    if isinstance(tree, ast.UnaryOp):
        return not _truth(spec, tree.operand, row)
    assert isinstance(tree, ast.Compare)
    sides = tree.left, tree.comparators[0]
    if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in sides):
        texts = [row[s.id] if isinstance(s, ast.Name) else ast.literal_eval(s) for s in sides]
        return (texts[0] == texts[1]) == isinstance(tree.ops[0], ast.Eq)
    left, right = (_number(side, row) for side in sides)
    close = _close(left, right)
    match tree.ops[0]:
        case ast.LtE():
            return left <= right or close
        case ast.GtE():
            return left >= right or close
        case ast.Lt():
            return left < right
        case ast.Gt():
            return left > right
        case ast.Eq():
            return close
        case _:
            return left != right


def _number(tree: ast.expr, row: Mapping[str, Value]) -> float:
    match tree:
        case ast.Constant():
            return float(tree.value)  # type: ignore[arg-type]
        case ast.Name():
            return float(row[tree.id])
        case ast.UnaryOp():
            return -_number(tree.operand, row)
        case ast.Call():
            given = [_number(each, row) for each in tree.args]
            if len(given) == 1:
                return abs(given[0])
            return min(given) if ast.unparse(tree.func) == "min" else max(given)
        case ast.BinOp():
            a, b = _number(tree.left, row), _number(tree.right, row)
            match tree.op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case _:
                    return a / b if b else math.nan
    raise AssertionError(ast.dump(tree))


def _close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_NEAR, abs_tol=2e-9)


def _per_row(budget: float | Tensor, count: int) -> list[float]:
    if isinstance(budget, Tensor) and budget.ndim:
        return [float(each) for each in budget]
    return [float(budget)] * count
