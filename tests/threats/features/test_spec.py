"""What a declaration refuses, in one sentence each, and what it finds out about itself."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from buckler.errors import DataError, UsageError
from buckler.threats.features import Feature, FeatureSpec, FeatureThreat, Price, Rule
from buckler.threats.features.inspect import check_spec, inspect
from buckler.threats.features.written import from_dict, load_spec, save_spec, to_dict
from tests.threats.features import shop

A, B = Feature("a", "integer", 0, 9), Feature("b", "real", 0.0, 1.0)
C = Feature("c", "category", levels=("x", "y"))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kind": "text"}, "kind must be one of"),
        ({"change": "sideways"}, "change must be one of"),
        ({"low": 2.0, "high": 1.0}, "low must be at most high"),
        ({}, "what may change needs a range"),
        ({"kind": "integer", "low": 0.5, "high": 2}, "must end at whole numbers"),
        ({"kind": "integer", "low": 0, "high": 2.0**30}, "up to 2\\^24"),
        ({"kind": "category", "levels": ("x",)}, "2 or more, all different"),
        ({"kind": "category", "levels": (1.0, 2.0)}, "names, or all numbers of an ordinal"),
        ({"kind": "ordinal", "levels": (2.0, 1.0)}, "numbers must rise"),
        ({"kind": "category", "levels": ("x", "y"), "change": "up"}, "no up and down"),
        ({"kind": "ordinal", "levels": ("x", "y"), "onehot": True}, "onehot goes with categories"),
        ({"levels": ("x", "y")}, "levels and onehot go with"),
        ({"kind": "category", "levels": ("x", "y"), "low": 0.0}, "levels say it all"),
        ({"low": 0.0, "high": 1.0, "price": Price(up=-1)}, "prices must be finite and >= 0"),
        ({"kind": "category", "levels": ("x", "y"), "price": Price(up=1)}, "not up or down"),
        ({"low": 0.0, "high": 1.0, "price": Price(to={"x": 1})}, "must name levels"),
        ({"derived": "b", "price": Price(up=1)}, "no price and no direction"),
    ],
)
def test_a_feature_that_cannot_be(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=f"feature 'f': .*{sentence}"):
        Feature("f", **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"features": ()}, "at least one feature"),
        ({"features": (A, A)}, "Got 'a' twice"),
        ({"rules": (Rule("a <= z"),)}, "rule a <= z: there is no feature 'z'"),
        ({"rules": (Rule("a + b"),)}, "must be a condition"),
        ({"rules": (Rule("a = b"),)}, "must be an expression"),
        ({"rules": (Rule("a.real <= 1"),)}, "Got 'a.real'"),
        ({"rules": (Rule("__import__('os') == 1"),)}, "rules may use"),
        ({"rules": (Rule("c == 'z'"),)}, "c has no level 'z'. Its levels: x, y"),
        ({"rules": (Rule("a <= 1", given="a + 'x' > 1"),)}, "can only be compared with its column"),
        ({"features": (A, Feature("d", derived="a <= 1"))}, "a number, not a condition"),
        (
            {"features": (Feature("d", derived="e"), Feature("e", derived="d"))},
            "made of each other",
        ),
        ({"gain": "z"}, "gain must name a feature"),
        ({"gain": "a"}, "does not change: give 'a' change = 'none'"),
    ],
)
def test_a_spec_that_cannot_be(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        FeatureSpec(**{"features": (A, B, C), **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"unit": "pounds"}, "unit must be one of money, l2"),
        ({"budget": -1.0}, "budget must be >= 0"),
        ({"budget": math.nan}, "budget must be >= 0"),
        ({"unit": "l2", "budget": 25.0}, "share of the ranges, at most .* did you mean unit"),
        ({"unit": "changes", "budget": 25.0}, "a number of changes, at most 6"),
        ({"unit": "l2", "profit": True}, "a profit is money"),
        ({"spec": FeatureSpec((A, B))}, "a price for each feature that may change. None: a, b"),
        ({"spec": replace(shop.SPEC, gain=None), "profit": True}, "needs the spec's gain"),
    ],
)
def test_a_budget_in_the_wrong_unit(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        FeatureThreat(**{"spec": shop.SPEC, "budget": 0.5, **values})  # type: ignore[arg-type]


def test_a_file_gives_the_same_spec_back(tmp_path: Path) -> None:
    save_spec(shop.SPEC, tmp_path / "features.toml")
    assert load_spec(tmp_path / "features.toml") == shop.SPEC
    assert to_dict(from_dict(to_dict(shop.SPEC))) == to_dict(shop.SPEC)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[feature.a]\nkind = 'integer'\nlow = 0\nhigh = 1\nprize = 2", "Got 'prize'"),
        ("[features.a]", "Got 'features'"),
        ("feature = 3", "tables \\[feature.NAME\\]"),
        ("[feature]\na = 3", "feature 'a' must be a table"),
        ("[feature.a]\nlow = 'x'", "feature 'a': low must be a number. Got 'x'"),
        ("[feature.a]\nlow = 0\nhigh = 1\nprice = 'x'", "price must be a number or a table"),
        ("[feature.a]\nlow = 0\nhigh = 1\nprice = {up = 'x'}", "a price must be a number. Got 'x'"),
        ("[feature.a]\nlow = 0\nhigh = 1\nprice = {pairs = {xy = 1}}", "named 'FROM -> TO'"),
        ("predicate = true\n[feature.a]\nlow = 0\nhigh = 1", "pass it as predicate="),
        ("rule = [{if = 'a > 1'}]", "with then ="),
        ("[feature.a", "is not TOML"),
    ],
)
def test_a_file_that_cannot_be(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "features.toml"
    path.write_text(content)
    with pytest.raises((UsageError, DataError), match=sentence):
        load_spec(path)


@pytest.mark.parametrize(
    ("rules", "kind", "where"),
    [
        ((Rule("a <= 9"),), "vacuous", "rule a <= 9"),
        ((Rule("0 <= a or 0 < b"),), "vacuous", "rule 0 <= a or 0 < b"),
        ((Rule("b > 0", given="a < 0"),), "vacuous", "if a < 0"),
        ((Rule("a + b >= 11"),), "contradiction", "rule a [+] b >= 11"),
        ((Rule("a >= 2 * a + 1"),), "contradiction", "rule a >= 2"),
        (
            (
                Rule("a >= 6"),
                Rule("b >= 0.5"),
                Rule("a + b <= 6"),
            ),
            "contradiction",
            "a >= 6; rule b",
        ),
        ((Rule("a >= b"), Rule("b > 0", given="a > 3")), None, ""),
        ((Rule("a * b <= 3"), Rule("max(a, b) > 0.5")), None, ""),
    ],
)
def test_rules_are_held_against_the_ranges(
    rules: tuple[Rule, ...], kind: str | None, where: str
) -> None:
    spec = FeatureSpec((A, B), rules)
    found = inspect(spec)
    assert [each.kind for each in found] == ([kind] if kind else [])
    if kind:
        with pytest.raises(UsageError, match=where):
            check_spec(spec)


def test_a_contradiction_names_only_the_rules_at_fault() -> None:
    rules = (Rule("b <= 0.9"), Rule("a >= 6", name="many"), Rule("a + b <= 5", name="few"))
    (found,) = inspect(FeatureSpec((A, B), rules))
    assert found.where == "rule many (a >= 6); rule few (a + b <= 5)"


def test_rules_are_held_against_clean_rows() -> None:
    x = torch.tensor([[5.0, 0.5], [1.0, 0.9], [12.0, 0.2]])
    spec = FeatureSpec((A, B), (Rule("a >= 4 * b"), Rule("b <= 0.5", given="a == 7")))
    kinds = {each.kind: each for each in inspect(spec, x)}
    assert set(kinds) == {"broken", "idle", "range"}
    assert kinds["broken"].text == "1 of 3 clean rows break it, first row 1"
    assert kinds["range"].where == "feature 'a'"
    with pytest.raises(UsageError, match="rule a >= 4"):
        check_spec(spec, x)
    check_spec(shop.SPEC, shop.rows(40))


def test_what_is_derived_is_held_against_clean_rows() -> None:
    spec = FeatureSpec((A, Feature("d", derived="2 * a")))
    (found,) = inspect(spec, torch.tensor([[1.0, 2.0], [2.0, 5.0]]))
    assert found.text == "1 of 2 clean rows hold another value than 2 * a, first row 1"
