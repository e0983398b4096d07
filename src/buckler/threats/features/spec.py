"""What a row of a table may hold, what the attacker may change in it, and what each change costs.

One declaration that attack, hardening, certificate, gateway and report all read. TabularBench
(Simonetto et al. 2024) has relations and no prices, EPFL's cost graphs (Kireev et al. 2023) prices
and no relations; here a row must keep both.
"""

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.threats.features import expression
from buckler.threats.features.feature import Feature, Price

_STORED = 1e-6  # of a level: what float32 storage may have moved it


@dataclass(frozen=True)
class Rule:
    """A condition that every row keeps; with `given`, only where that holds.

    "length_hostname <= length_url", or Rule("nb_dots > 0", given="nb_com > 0").
    """

    then: str
    given: str | None = None
    name: str = ""

    def __str__(self) -> str:
        text = f"if {self.given} then {self.then}" if self.given else self.then
        return f"{self.name} ({text})" if self.name else text


@dataclass(frozen=True)
class Compiled:
    """A rule as trees over columns of numbers."""

    rule: Rule
    then: ast.expr
    given: ast.expr | None

    def holds(self, columns: Mapping[str, Tensor]) -> Tensor:
        kept = expression.holds(self.then, columns)
        return kept if self.given is None else kept | ~expression.holds(self.given, columns)


@dataclass(frozen=True)
class Numeric:
    """The features without levels that the attacker sets, side by side: all are (k,).

    at: their indices. low, high: their ranges. whole: integers. up, down: the only direction.
    fee, rise, fall: price of any change, and of a unit of an increase or decrease.
    """

    at: Tensor
    low: Tensor
    high: Tensor
    whole: Tensor
    up: Tensor
    down: Tensor
    fee: Tensor
    rise: Tensor
    fall: Tensor

    @classmethod
    def of(cls, features: Sequence[Feature]) -> "Numeric":
        found = [(i, each) for i, each in enumerate(features) if each.mutable and not each.levels]
        tags = [each.price or Price() for _, each in found]

        def numbers(values: Sequence[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float64)

        return cls(
            at=torch.tensor([index for index, _ in found], dtype=torch.int64),
            low=numbers([each.low for _, each in found]),
            high=numbers([each.high for _, each in found]),
            whole=torch.tensor([each.kind == "integer" for _, each in found], dtype=torch.bool),
            up=torch.tensor([each.change == "up" for _, each in found], dtype=torch.bool),
            down=torch.tensor([each.change == "down" for _, each in found], dtype=torch.bool),
            fee=numbers([tag.change for tag in tags]),
            rise=numbers([tag.up for tag in tags]),
            fall=numbers([tag.down for tag in tags]),
        )


@dataclass(frozen=True)
class FeatureSpec:
    """The columns in the classifier's order, and the rules between them.

    Args:
        gain: the column that says what a row is worth to the attacker, in money.
        predicate: called with {name: array (n,)} (levels by name); (n,) bool, the rows that may be.

    Raises: UsageError for names that clash, rules about columns that are not there, circles of
        derived columns.
    """

    features: tuple[Feature, ...]
    rules: tuple[Rule, ...] = ()
    gain: str | None = None
    predicate: Callable[[Mapping[str, Any]], Any] | None = None

    def __post_init__(self) -> None:
        if not self.features:
            raise UsageError("a feature spec needs at least one feature. Got 0")
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise UsageError(f"each feature needs a name of its own. Got {twice!r} twice")
        if self.gain is not None:
            if self.gain not in self.names:
                raise UsageError(f"gain must name a feature. Got {self.gain!r}")
            if self[self.gain].mutable or self[self.gain].levels:
                raise UsageError(
                    f"gain must be a number that the attacker does not change: give {self.gain!r} "
                    "change = 'none'"
                )
        _ = self.compiled, self.formulas

    def __getitem__(self, name: str) -> Feature:
        return self.features[self.names.index(name)]

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.features)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The first of the classifier's columns of each feature."""
        wide = [each.wide for each in self.features]
        return tuple(sum(wide[:index]) for index in range(len(wide)))

    @property
    def width(self) -> int:
        """How many columns the classifier sees."""
        return sum(each.wide for each in self.features)

    @cached_property
    def column_names(self) -> tuple[str, ...]:
        """The classifier's columns; a one-hot level is "feature=level"."""
        return tuple(
            f"{each.name}={level}" if each.onehot else each.name
            for each in self.features
            for level in (each.levels if each.onehot else ("",))
        )

    @cached_property
    def mutable(self) -> tuple[int, ...]:
        """Indices of the features the attacker sets."""
        return tuple(index for index, each in enumerate(self.features) if each.mutable)

    @cached_property
    def numeric(self) -> Numeric:
        return Numeric.of(self.features)

    @cached_property
    def levelled(self) -> tuple[int, ...]:
        """Indices of the features with levels that the attacker sets."""
        return tuple(index for index in self.mutable if self.features[index].levels)

    @cached_property
    def fixed(self) -> tuple[int, ...]:
        """Indices of the features that nothing changes: neither the attacker nor a formula."""
        every = enumerate(self.features)
        return tuple(i for i, each in every if not each.mutable and each.derived is None)

    @cached_property
    def compiled(self) -> tuple[Compiled, ...]:
        found = []
        for rule in self.rules:
            then = self._tree(rule.then, f"rule {rule}", condition=True)
            given = self._tree(rule.given, f"rule {rule}", condition=True) if rule.given else None
            found.append(Compiled(rule, then, given))
        return tuple(found)

    @cached_property
    def formulas(self) -> tuple[tuple[int, ast.expr], ...]:
        """(index, tree) of each derived feature, in an order in which they can be computed."""
        trees = {
            each.name: self._tree(each.derived, f"feature {each.name!r}", condition=False)
            for each in self.features
            if each.derived is not None
        }
        order: list[tuple[int, ast.expr]] = []
        while trees:
            ready = [
                name for name, tree in trees.items() if not set(expression.names(tree)) & set(trees)
            ]
            if not ready:
                raise UsageError(
                    f"derived features must not be made of each other: {', '.join(trees)}"
                )
            order += [(self.names.index(name), trees.pop(name)) for name in ready]
        return tuple(order)

    def _tree(self, text: str, where: str, condition: bool) -> ast.expr:
        tree = expression.parse(text, where)
        if condition != expression.is_condition(tree):
            kind = "a condition (a <= b)" if condition else "a number, not a condition"
            raise UsageError(f"{where}: {text!r} must be {kind}")
        if unknown := [name for name in expression.names(tree) if name not in self.names]:
            raise UsageError(f"{where}: there is no feature {unknown[0]!r}")
        levels = {
            each.name: tuple(str(level) for level in each.levels)
            for each in self.features
            if each.levels and isinstance(each.levels[0], str)
        }
        tree = expression.with_codes(tree, levels, where)
        if any(
            isinstance(node, ast.Constant) and isinstance(node.value, str)
            for node in ast.walk(tree)
        ):
            raise UsageError(
                f"{where}: a quoted level can only be compared with its column: {text!r}"
            )
        return tree

    def columns(self, raw: Tensor) -> dict[str, Tensor]:
        """{name: (n,)} of raw rows (n, features)."""
        return dict(zip(self.names, raw.unbind(1), strict=True))

    def decode(self, x: Tensor) -> Tensor:
        """The classifier's rows (n, width) as raw rows (n, features), float64, one number each."""
        if x.ndim != 2 or x.shape[1] != self.width:
            raise UsageError(
                f"rows must have the spec's {self.width} columns, (n, {self.width}). "
                f"Got {tuple(x.shape)}"
            )
        x = x.detach().cpu().double()
        parts: Sequence[Tensor] = [
            x[:, start : start + each.wide].argmax(1) if each.onehot else _stored(each, x[:, start])
            for each, start in zip(self.features, self.starts, strict=True)
        ]
        return torch.stack([part.double() for part in parts], 1)

    def encode(self, raw: Tensor, like: Tensor) -> Tensor:
        """Raw rows (n, features) as the classifier sees them (n, width), in `like`'s dtype, on its
        device."""
        if self.width == len(self.features):
            return raw.to(like)
        x = torch.zeros(len(raw), self.width, dtype=torch.float64)
        for index, (each, start) in enumerate(zip(self.features, self.starts, strict=True)):
            if each.onehot:
                x.scatter_(1, start + raw[:, index : index + 1].long(), 1.0)
            else:
                x[:, start] = raw[:, index]
        return x.to(like)


def _stored(feature: Feature, column: Tensor) -> Tensor:
    """An ordinal's numbers as declared, where float32 has moved their last bits."""
    if not feature.levels:
        return column
    nearest = feature.values[feature.ranks(column)]
    return torch.where((column - nearest).abs() <= _STORED * nearest.abs(), nearest, column)
