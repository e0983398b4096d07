"""The spec as a TOML file: read, and written."""

import math
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tomli_w

from buckler import files
from buckler.errors import DataError, UsageError
from buckler.threats.features.feature import Feature, Price
from buckler.threats.features.spec import FeatureSpec, Rule

_FEATURE = ("kind", "low", "high", "levels", "onehot", "change", "price", "derived")
_RULE = ("then", "if", "name")
_TOP = ("feature", "rule", "gain", "predicate")
_ARROW = " -> "


def load_spec(
    path: Path, predicate: Callable[[Mapping[str, Any]], Any] | None = None
) -> FeatureSpec:
    """The spec in a TOML file. Code is never named there and run: a predicate is handed over here.

    Raises: DataError for a file that cannot be read; UsageError for what stands in it.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is not TOML: {error}") from None
    return from_dict(content, predicate)


def save_spec(spec: FeatureSpec, path: Path) -> None:
    files.write_text(path, tomli_w.dumps(to_dict(spec)))


def from_dict(
    content: Mapping[str, Any], predicate: Callable[[Mapping[str, Any]], Any] | None = None
) -> FeatureSpec:
    """The spec of a parsed TOML file.

    Raises: UsageError for keys that are unknown and values of the wrong type, by name.
    """
    _known(content, _TOP, "a feature spec")
    wanted = content.get("predicate", False)
    if wanted and predicate is None:
        raise UsageError("this spec has a predicate, which is code: pass it as predicate=")
    tables = content.get("feature", {})
    if not isinstance(tables, Mapping):
        raise UsageError("features must be tables [feature.NAME]")
    features = tuple(_feature(name, table) for name, table in tables.items())
    rules = tuple(_rule(table) for table in content.get("rule", ()))
    return FeatureSpec(features, rules, content.get("gain"), predicate)


def _feature(name: str, table: Any) -> Feature:
    if not isinstance(table, Mapping):
        raise UsageError(f"feature {name!r} must be a table [feature.{name}]. Got {table!r}")
    _known(table, _FEATURE, f"feature {name!r}")
    values = dict(table)
    for key, kind, word in (
        ("low", (int, float), "a number"),
        ("high", (int, float), "a number"),
        ("onehot", bool, "true or false"),
        ("levels", list, "a list"),
        ("derived", str, "text"),
    ):
        if key in values and not isinstance(values[key], kind):
            raise UsageError(f"feature {name!r}: {key} must be {word}. Got {values[key]!r}")
    if "levels" in values:
        levels = values["levels"]
        numbers = all(isinstance(each, int | float) for each in levels)
        values["levels"] = tuple(map(float, levels) if numbers else map(str, levels))
    if "price" in values:
        values["price"] = _price(name, values["price"])
    return Feature(name, **values)


def _price(name: str, value: Any) -> Price:
    """0.5, or {up = 10, down = 0.1}, or {change = 1, to = {ios = 2}, pairs = {"a -> b" = 3}}."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Price(change=float(value))
    if not isinstance(value, Mapping):
        raise UsageError(f"feature {name!r}: price must be a number or a table. Got {value!r}")
    _known(value, ("change", "up", "down", "to", "pairs"), f"the price of feature {name!r}")
    parts = {**value, "pairs": {}}
    for key, money in value.get("pairs", {}).items():
        before, arrow, after = key.partition(_ARROW)
        if not arrow:
            raise UsageError(f"feature {name!r}: pairs are named 'FROM -> TO'. Got {key!r}")
        parts["pairs"][before, after] = money
    amounts = [value.get(key, 0) for key in ("change", "up", "down")]
    amounts += [*value.get("to", {}).values(), *parts["pairs"].values()]
    for money in amounts:
        if not isinstance(money, int | float) or isinstance(money, bool):
            raise UsageError(f"feature {name!r}: a price must be a number. Got {money!r}")
    return Price(**parts)


def _rule(table: Any) -> Rule:
    if not isinstance(table, Mapping) or "then" not in table:
        raise UsageError(f"a rule must be a [[rule]] with then = 'a <= b'. Got {table!r}")
    _known(table, _RULE, f"rule {table['then']!r}")
    return Rule(str(table["then"]), table.get("if"), str(table.get("name", "")))


def _known(table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    if unknown := [key for key in table if key not in allowed]:
        raise UsageError(f"{where} may hold {', '.join(allowed)}. Got {unknown[0]!r}")


def to_dict(spec: FeatureSpec) -> dict[str, Any]:
    """What `from_dict` reads; a predicate is noted, not kept."""
    content: dict[str, Any] = {} if spec.gain is None else {"gain": spec.gain}
    if spec.predicate is not None:
        content["predicate"] = True
    content["feature"] = {each.name: _table(each) for each in spec.features}
    rules = [{"name": rule.name, "if": rule.given, "then": rule.then} for rule in spec.rules]
    if rules:
        content["rule"] = [{key: text for key, text in rule.items() if text} for rule in rules]
    return content


def _table(feature: Feature) -> dict[str, Any]:
    table: dict[str, Any] = {"kind": feature.kind}
    for name, value in (("low", feature.low), ("high", feature.high)):
        if math.isfinite(value):
            table[name] = int(value) if feature.kind == "integer" else value
    if feature.levels:
        table["levels"] = list(feature.levels)
    if feature.onehot:
        table["onehot"] = True
    if feature.derived is not None:
        return {**table, "derived": feature.derived}
    table["change"] = feature.change
    if (tag := feature.price) is not None:
        amounts = {"change": tag.change, "up": tag.up, "down": tag.down, "to": dict(tag.to)}
        amounts["pairs"] = {_ARROW.join(pair): money for pair, money in tag.pairs.items()}
        kept = {key: amount for key, amount in amounts.items() if amount}
        table["price"] = kept if set(kept) - {"change"} else tag.change
    return table
