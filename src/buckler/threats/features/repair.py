"""Bring rows that break a linear rule back to it, by moving other columns of the same rule."""

import ast
from dataclasses import dataclass

import torch
from torch import Tensor

from buckler.threats.features import expression
from buckler.threats.features.legal import complete, legal, snap
from buckler.threats.features.spec import Compiled, FeatureSpec

_PASSES = 3
_HAIR = 1e-6  # of the constant's size: how far beyond a strict border real numbers go
_FLIPPED = {ast.LtE: ast.Gt, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE}


@dataclass(frozen=True)
class Half:
    """weights (features,) · raw <= most: one linear half-space."""

    weights: Tensor
    most: float

    def excess(self, raw: Tensor) -> Tensor:
        return raw @ self.weights - self.most


def repair(spec: FeatureSpec, start: Tensor, raw: Tensor, back: bool = False) -> Tensor:
    """Raw rows (n, features) snapped, and mended where they break linear rules and implications.

    First the columns that have not been changed yet give way, so that the changes that were asked
    for stay; then the others. An implication is mended at its end, or, with `back`, at its
    condition, if it can be; else the other way. Rows that cannot be mended come back broken: ask
    `legal`.
    """
    raw = snap(spec, start, raw)
    for _ in range(_PASSES):
        broken = ~legal(spec, start, raw)
        if not bool(broken.any()):
            break
        for rule in spec.compiled:
            raw = _mend(spec, rule, start, raw, back)
    return raw


def _mend(spec: FeatureSpec, rule: Compiled, start: Tensor, raw: Tensor, back: bool) -> Tensor:
    ends = [(rule.then, True)] + ([(rule.given, False)] if rule.given is not None else [])
    for tree, wanted in reversed(ends) if back else ends:
        for way in ways(spec, tree, wanted):
            at = (~rule.holds(spec.columns(raw))).nonzero()[:, 0]
            if not len(at):
                return raw
            fixed = raw[at]
            for half in way:
                fixed = snap(spec, start[at], _pushed(spec, half, start[at], fixed))
            raw = raw.index_copy(0, at, fixed)
    return raw


def ways(spec: FeatureSpec, tree: ast.expr, wanted: bool) -> list[list[Half]]:
    """The ways to make a condition true (or false): half-spaces to enter, all of a way."""
    if isinstance(tree, ast.UnaryOp):
        return ways(spec, tree.operand, not wanted)
    if isinstance(tree, ast.BoolOp):
        parts = [ways(spec, each, wanted) for each in tree.values]
        if isinstance(tree.op, ast.Or) == wanted:  # one of them is enough
            return [way for part in parts for way in part]
        return [[half for part in parts for half in part[0]]] if all(parts) else []
    found = halves(spec, tree, wanted)
    return [found] if found else []


def halves(spec: FeatureSpec, tree: ast.expr, wanted: bool) -> list[Half]:
    """Half-spaces that a comparison of linear sides comes down to; none for any other condition."""
    if not isinstance(tree, ast.Compare):
        return []
    form = expression.linear(ast.BinOp(tree.left, ast.Sub(), tree.comparators[0]))
    kind = type(tree.ops[0]) if wanted else _FLIPPED.get(type(tree.ops[0]))
    if form is None or kind is None or kind is ast.NotEq:
        return []
    weights = torch.zeros(len(spec.features), dtype=torch.float64)
    for name, coefficient in form[0].items():
        weights[spec.names.index(name)] = coefficient
    whole = all(
        spec[name].kind in ("integer", "category") and coefficient == int(coefficient)
        for name, coefficient in form[0].items()
    )
    hair = 0.0 if kind in (ast.LtE, ast.GtE, ast.Eq) else 1.0
    hair *= 1.0 if whole else _HAIR * max(1.0, abs(form[1]))
    below, above = Half(weights, -form[1] - hair), Half(-weights, form[1] - hair)
    if kind is ast.Eq:
        return [below, above]
    return [below if kind in (ast.LtE, ast.Lt) else above]


def _pushed(spec: FeatureSpec, half: Half, start: Tensor, raw: Tensor) -> Tensor:
    """raw moved into the half-space as far as its columns have room, those with most room first."""
    raw = raw.clone()
    order = sorted(
        (index for index in spec.mutable if half.weights[index]),
        key=lambda index: -abs(float(half.weights[index])) * _wide(spec, index),
    )
    for untouched in (True, False):
        for index in order:
            over = half.excess(complete(spec, start, raw)).clamp(min=0)
            if not bool((over > 0).any()):
                return raw
            feature, before, weight = spec.features[index], raw[:, index], half.weights[index]
            low, high = feature.ends
            first = start[:, index]
            least = first if feature.change == "up" else torch.full_like(first, low)
            most = first if feature.change == "down" else torch.full_like(first, high)
            step = over / weight.abs()
            # Up to the next whole number or level, or rounding would undo the mending.
            if feature.kind == "integer":
                step = (step - 1e-9).ceil()
            moved = before - weight.sign() * step
            if feature.levels:
                moved = _outward(feature.values, moved, up=bool(weight < 0))
            moved = moved.clamp(torch.minimum(least, before), torch.maximum(most, before))
            free = (before == first) if untouched else torch.ones_like(before, dtype=torch.bool)
            raw[:, index] = torch.where(free & (over > 0), moved, before)
    return raw


def _wide(spec: FeatureSpec, index: int) -> float:
    low, high = spec.features[index].ends
    return high - low


def _outward(values: Tensor, column: Tensor, up: bool) -> Tensor:
    """The nearest level at or beyond each number, upwards or downwards."""
    if up:
        at = torch.searchsorted(values, column - 1e-9)
    else:
        at = torch.searchsorted(values, column + 1e-9, right=True) - 1
    return values[at.clamp(0, len(values) - 1)]
