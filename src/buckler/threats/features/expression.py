"""Rules as people write them: `length_hostname <= length_url`, `device_os == 'ios' and age > 60`.

Python's own grammar, of which only arithmetic (+ − * /, min, max, abs), comparisons, `and`, `or`,
`not` over column names, numbers and names of levels are let through: nothing is ever executed.
"""

import ast
import math
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from buckler.errors import UsageError

Interval = tuple[float, float]
SLACK = 1e-6  # of the size of both sides: what float32 storage may add to a value

_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARED = (ast.LtE, ast.GtE, ast.Lt, ast.Gt, ast.Eq, ast.NotEq)
_FUNCTIONS = {"min": torch.minimum, "max": torch.maximum}


def parse(text: str, where: str) -> ast.expr:
    """The tree of an expression or a condition, with nothing in it but what is allowed.

    Raises: UsageError that names `where`.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise UsageError(
            f"{where}: {text!r} must be an expression such as 'a + 2 * b <= c' (no '=' alone)"
        ) from None
    for node in ast.walk(tree):
        if not _allowed(node):
            raise UsageError(
                f"{where}: rules may use + - * /, min, max, abs, comparisons, and, or, not, column "
                f"names, numbers and quoted levels. Got {ast.unparse(node)!r} in {text!r}"
            )
    return tree


def _allowed(node: ast.AST) -> bool:
    if isinstance(node, ast.Compare):
        return len(node.ops) == 1 and isinstance(node.ops[0], _COMPARED)
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and not node.keywords
        count = {"min": 2, "max": 2, "abs": 1}.get(ast.unparse(node.func), -1)
        return named and len(node.args) == count
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return isinstance(node.value, str)
        return math.isfinite(node.value)
    if isinstance(node, ast.BinOp):
        return type(node.op) in _ARITHMETIC
    plain = (ast.Name, ast.Load, ast.BoolOp, ast.And, ast.Or, ast.Not, ast.UnaryOp, ast.USub)
    return isinstance(node, (*plain, *_ARITHMETIC, *_COMPARED))


def is_condition(tree: ast.expr) -> bool:
    negated = isinstance(tree, ast.UnaryOp) and isinstance(tree.op, ast.Not)
    return negated or isinstance(tree, ast.Compare | ast.BoolOp)


def names(tree: ast.expr) -> tuple[str, ...]:
    """The columns it speaks of, each once, in order."""
    calls = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in calls
    ]
    return tuple(dict.fromkeys(found))


class _Codes(ast.NodeTransformer):
    def __init__(self, levels: Mapping[str, tuple[str, ...]], where: str) -> None:
        self.levels, self.where = levels, where

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        sides = [node.left, node.comparators[0]]
        for side, other in (sides, sides[::-1]):
            if isinstance(side, ast.Constant) and isinstance(side.value, str):
                known = self.levels.get(other.id, ()) if isinstance(other, ast.Name) else ()
                if side.value not in known:
                    raise UsageError(
                        f"{self.where}: {ast.unparse(other)} has no level {side.value!r}. "
                        f"Its levels: {', '.join(known) or 'none'}"
                    )
                side.value = known.index(side.value)
        return node


def with_codes(tree: ast.expr, levels: Mapping[str, tuple[str, ...]], where: str) -> ast.expr:
    """The same with the names of levels replaced by their numbers. Changes `tree`."""
    coded: ast.expr = _Codes(levels, where).visit(tree)
    return coded


def value(tree: ast.expr, columns: Mapping[str, Tensor]) -> Tensor:
    """Of an expression, row by row (n,); a division by zero is infinite or NaN."""
    if isinstance(tree, ast.Name):
        return columns[tree.id]
    if isinstance(tree, ast.Constant):
        return torch.tensor(float(tree.value), dtype=torch.float64)  # type: ignore[arg-type]
    if isinstance(tree, ast.UnaryOp):
        return -value(tree.operand, columns)
    if isinstance(tree, ast.Call):
        given = [value(each, columns) for each in tree.args]
        assert isinstance(tree.func, ast.Name)
        return given[0].abs() if len(given) == 1 else _FUNCTIONS[tree.func.id](*given)
    assert isinstance(tree, ast.BinOp)
    left, right = value(tree.left, columns), value(tree.right, columns)
    result: Tensor = _ARITHMETIC[type(tree.op)](left, right)
    return result


def holds(tree: ast.expr, columns: Mapping[str, Tensor]) -> Tensor:
    """Of a condition, row by row (n,) bool. <=, >= and == allow for float32's last bits; <, > and
    != do not. NaN holds nothing."""
    if isinstance(tree, ast.BoolOp):
        join = torch.logical_and if isinstance(tree.op, ast.And) else torch.logical_or
        return reduce(join, [holds(each, columns) for each in tree.values])
    if isinstance(tree, ast.UnaryOp):
        return ~holds(tree.operand, columns)
    assert isinstance(tree, ast.Compare)
    left, right = value(tree.left, columns), value(tree.comparators[0], columns)
    slack = SLACK * (left.abs() + right.abs()) + 1e-9
    match tree.ops[0]:
        case ast.LtE():
            return left <= right + slack
        case ast.GtE():
            return left >= right - slack
        case ast.Lt():
            return left < right
        case ast.Gt():
            return left > right
        case ast.Eq():
            return (left - right).abs() <= slack
        case _:
            return left != right


def bounds(tree: ast.expr, ranges: Mapping[str, Interval]) -> Interval:
    """Of an expression over all rows inside the ranges: never too narrow (interval arithmetic)."""
    if isinstance(tree, ast.Name):
        return ranges[tree.id]
    if isinstance(tree, ast.Constant):
        return (float(tree.value), float(tree.value))  # type: ignore[arg-type]
    if isinstance(tree, ast.UnaryOp):
        low, high = bounds(tree.operand, ranges)
        return (-high, -low)
    if isinstance(tree, ast.Call):
        given = [bounds(each, ranges) for each in tree.args]
        assert isinstance(tree.func, ast.Name)
        if tree.func.id == "abs":
            low, high = given[0]
            return (max(low, -high, 0.0), max(-low, high))
        pick = min if tree.func.id == "min" else max
        return (pick(part[0] for part in given), pick(part[1] for part in given))
    assert isinstance(tree, ast.BinOp)
    (a, b), (c, d) = bounds(tree.left, ranges), bounds(tree.right, ranges)
    match tree.op:
        case ast.Add():
            return (a + c, b + d)
        case ast.Sub():
            return (a - d, b - c)
        case ast.Div():
            if c <= 0 <= d:
                return (-math.inf, math.inf)
            c, d = 1 / d, 1 / c
    corners = [0.0 if 0.0 in (p, q) else p * q for p in (a, b) for q in (c, d)]
    return (min(corners), max(corners))


def truth(tree: ast.expr, ranges: Mapping[str, Interval]) -> bool | None:
    """True if the condition holds for every row inside the ranges, False if for none; else None."""
    if isinstance(tree, ast.BoolOp):
        parts = [truth(each, ranges) for each in tree.values]
        decisive = isinstance(tree.op, ast.Or)
        if decisive in parts:
            return decisive
        return None if None in parts else not decisive
    if isinstance(tree, ast.UnaryOp):
        inner = truth(tree.operand, ranges)
        return None if inner is None else not inner
    assert isinstance(tree, ast.Compare)
    (a, b), (c, d) = bounds(tree.left, ranges), bounds(tree.comparators[0], ranges)
    apart, point = b < c or d < a, a == b == c == d
    match tree.ops[0]:
        case ast.LtE():
            return True if b <= c else False if a > d else None
        case ast.GtE():
            return True if a >= d else False if b < c else None
        case ast.Lt():
            return True if b < c else False if a >= d else None
        case ast.Gt():
            return True if a > d else False if b <= c else None
        case ast.Eq():
            return True if point else False if apart else None
        case _:
            return True if apart else False if point else None


def linear(tree: ast.expr) -> tuple[dict[str, float], float] | None:
    """(coefficients by name, constant) if the expression is linear, else None."""
    if isinstance(tree, ast.Name):
        return {tree.id: 1.0}, 0.0
    if isinstance(tree, ast.Constant):
        return {}, float(tree.value)  # type: ignore[arg-type]
    if isinstance(tree, ast.UnaryOp):
        return _scaled(linear(tree.operand), -1.0)
    if not isinstance(tree, ast.BinOp):
        return None
    left, right = linear(tree.left), linear(tree.right)
    if left is None or right is None:
        return None
    match tree.op:
        case ast.Add() | ast.Sub():
            right = _scaled(right, 1.0 if isinstance(tree.op, ast.Add) else -1.0)
            assert right is not None
            every = {**left[0], **right[0]}
            sums = {name: left[0].get(name, 0.0) + right[0].get(name, 0.0) for name in every}
            return sums, left[1] + right[1]
        case ast.Mult():
            if right[0]:
                left, right = right, left
            return None if right[0] else _scaled(left, right[1])
        case _:
            return None if right[0] or not right[1] else _scaled(left, 1 / right[1])


def _scaled(
    form: tuple[dict[str, float], float] | None, by: float
) -> tuple[dict[str, float], float] | None:
    return form and ({name: by * each for name, each in form[0].items()}, by * form[1])
