"""Is the spec itself to be believed? Held against its own ranges, and against clean rows.

Six of TabularBench's 14 rules for URLs held for every row there could be, through a slip (0 <= a
for 0 < a): such a rule constrains nobody and looks as if it did.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import linprog
from torch import Tensor

from buckler.errors import UsageError
from buckler.threats.features import expression
from buckler.threats.features.legal import predicate
from buckler.threats.features.repair import Half, halves
from buckler.threats.features.spec import Compiled, FeatureSpec

_FEW = 0.01  # of clean rows may break a rule before it is called wrong


@dataclass(frozen=True)
class Finding:
    """One thing about the spec.

    kind: "contradiction" (no row can keep it), "vacuous" (no row can break it), "broken" (clean
        rows break it), "range" (clean rows lie outside), "idle" (its condition holds on no clean
        row).
    where: the feature or rule.
    share: of the clean rows, where there are any.
    """

    kind: Literal["contradiction", "vacuous", "broken", "range", "idle"]
    where: str
    text: str
    share: float = 0.0

    @property
    def serious(self) -> bool:
        """An attack under this spec would say nothing."""
        return self.kind in ("contradiction", "vacuous") or (
            self.kind == "broken" and self.share > _FEW
        )


def inspect(spec: FeatureSpec, x: Tensor | None = None) -> list[Finding]:
    """What is wrong with the spec: by its ranges alone, and on clean rows x (n, width) if given."""
    ranges = {each.name: _range(spec, each.name) for each in spec.features}
    found = [finding for rule in spec.compiled if (finding := _rule(rule, ranges))]
    if not any(each.kind == "contradiction" for each in found):
        found += _together(spec)
    if x is not None:
        found += _clean(spec, spec.decode(x))
    return found


def check_spec(spec: FeatureSpec, x: Tensor | None = None) -> None:
    """Raises: UsageError that names the first rule under which an attack would say nothing."""
    for finding in inspect(spec, x):
        if finding.serious:
            raise UsageError(f"{finding.where}: {finding.text}")


def _range(spec: FeatureSpec, name: str) -> expression.Interval:
    feature = spec[name]
    if feature.derived is None:
        return feature.ends
    tree = next(tree for index, tree in spec.formulas if spec.names[index] == name)
    inputs = {each: _range(spec, each) for each in expression.names(tree)}
    return expression.bounds(tree, inputs)


def _rule(rule: Compiled, ranges: dict[str, expression.Interval]) -> Finding | None:
    where = f"rule {rule.rule}"
    then = expression.truth(rule.then, ranges)
    given = True if rule.given is None else expression.truth(rule.given, ranges)
    if given is False:
        return Finding("vacuous", where, "its condition can hold for no row within the ranges")
    if then is True:
        return Finding("vacuous", where, "it holds for every row within the ranges")
    if given is True and then is False:
        return Finding("contradiction", where, "it can hold for no row within the ranges")
    return None


def _together(spec: FeatureSpec) -> list[Finding]:
    """Linear rules that no row can keep all at once: a smallest set, by leaving each out."""
    linear = {
        index: parts
        for index, rule in enumerate(spec.compiled)
        if rule.given is None and (parts := halves(spec, rule.then, True))
    }
    if not linear or _feasible(spec, [half for parts in linear.values() for half in parts]):
        return []
    guilty = dict(linear)
    for index in linear:
        rest = [half for other, parts in guilty.items() if other != index for half in parts]
        if not _feasible(spec, rest):
            del guilty[index]
    names = "; ".join(f"rule {spec.rules[index]}" for index in guilty)
    return [Finding("contradiction", names, "no row within the ranges can keep them together")]


def _feasible(spec: FeatureSpec, parts: list[Half]) -> bool:
    if not parts:
        return True
    ends = [
        tuple(end if np.isfinite(end) else None for end in _range(spec, each.name))
        for each in spec.features
    ]
    weights = np.stack([half.weights.numpy() for half in parts])
    limits = [half.most + 1e-6 * (1 + abs(half.most)) for half in parts]
    found = linprog(np.zeros(len(spec.features)), A_ub=weights, b_ub=limits, bounds=ends)
    return bool(found.status != 2)  # 2: infeasible


def _clean(spec: FeatureSpec, raw: Tensor) -> list[Finding]:
    if not len(raw):
        raise UsageError("a spec is checked on clean rows: at least one is needed. Got 0")
    found, columns = [], spec.columns(raw)
    for rule in spec.compiled:
        where, broken = f"rule {rule.rule}", ~rule.holds(columns)
        if bool(broken.any()):
            found.append(_share("broken", where, "break it", broken))
        elif rule.given is not None and not bool(expression.holds(rule.given, columns).any()):
            found.append(Finding("idle", where, "its condition holds on no clean row", 1.0))
    if spec.predicate is not None and bool((refused := ~predicate(spec, raw)).any()):
        found.append(_share("broken", "the predicate", "are refused by it", refused))
    for feature in spec.features:
        low, high = feature.ends
        outside = (columns[feature.name] < low) | (columns[feature.name] > high)
        if feature.derived is None and bool(outside.any()):
            text = f"lie outside {low:g} to {high:g}"
            found.append(_share("range", f"feature {feature.name!r}", text, outside))
    for index, tree in spec.formulas:
        expected = expression.value(tree, columns).expand(len(raw))
        off = (expected - raw[:, index]).abs() > 1e-4 * expected.abs() + 1e-6
        if bool((off | expected.isnan()).any()):
            where = f"feature {spec.names[index]!r}"
            text = f"hold another value than {spec.features[index].derived}"
            found.append(_share("broken", where, text, off | expected.isnan()))
    return found


def _share(kind: Literal["broken", "range"], where: str, text: str, rows: Tensor) -> Finding:
    count = int(rows.sum())
    first = int(rows.nonzero()[0, 0])
    sentence = f"{count} of {len(rows)} clean rows {text}, first row {first}"
    return Finding(kind, where, sentence, count / len(rows))
