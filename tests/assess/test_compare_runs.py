"""Runs side by side, and in money: worked by hand, paired by row, never a claim without inputs."""

import json

import pytest

from buckler.assess.report.compare import compare
from buckler.assess.report.compare_text import as_markdown
from buckler.assess.report.money import Terms, in_money, threshold
from buckler.assess.report.runs import read_run
from buckler.errors import DataError
from buckler.ops.impact import Prices, Traffic

from .reports import assessment, book, evidence, write

TERMS = Terms(Traffic(10_000, (100, 10_000)), Prices(missed=100, review=2, false_alarm=1))
DEAR = Terms(Traffic(1_000_000, (100, 10_000)), TERMS.prices)


@pytest.fixture
def two(tmp_path):
    """Runs that differ in the rows broken: the second loses none and wins ten."""
    for name, broken in (("a", 16), ("b", 6)):
        evidence(tmp_path / name, broken=broken)
    return [read_run(tmp_path / name, name) for name in ("a", "b")]


def test_a_pair_is_told_apart_by_its_rows(two):
    (difference,) = compare(two)["differences"]
    clean, attacked = difference["paired"]
    assert (clean["lost"], clean["won"], clean["verdict"]) == (0, 0, "not told apart")
    assert (attacked["lost"], attacked["won"], attacked["verdict"]) == (0, 10, "better")
    assert attacked["p"] == pytest.approx(2 * 0.5**10)
    assert attacked["gain"] == pytest.approx(10 / 60)
    assert attacked["low"] < attacked["gain"] < attacked["high"]
    back = compare(two[::-1])["differences"][0]["paired"][1]
    assert back["verdict"] == "worse"
    assert (back["low"], back["high"]) == pytest.approx((-attacked["high"], -attacked["low"]))


def test_other_threats_and_rows_are_not_paired(two, tmp_path):
    other = assessment(book(), eps=0.3)
    write(tmp_path / "other.json", other)
    value = compare([two[0], read_run(tmp_path / "other.json")])
    assert value["differences"][0]["paired"] == []
    assert "other threats (linf 0.1, linf 0.3)" in value["differences"][0]["note"]
    assert "their success is not compared" in as_markdown(value)
    write(tmp_path / "same.json", assessment(book()))
    counted = compare([two[0], read_run(tmp_path / "same.json")])["differences"][0]
    assert "no rows were kept" in counted["note"]


def test_endpoints_are_ranked_by_money_at_risk(two):
    money = in_money([(two[0], TERMS), (two[1], DEAR)])
    assert [week["system"]["name"] for week in money["rank"]] == ["b", "a"]
    # a: 10,000 inputs, 1 % attacks, 16 of 58 missed at 100 each.
    assert money["rank"][1]["at_risk"]["value"] == pytest.approx(100 * 100 * 16 / 58)
    assert money["change"] is None  # their endpoints differ
    for week in money["rank"]:
        for put_in in ("inputs a week", "100 attacks in 10,000", "100 EUR a missed", "of 58"):
            assert put_in in week["sentence"]


def test_the_second_in_the_firsts_place(two):
    change = in_money([(run, TERMS) for run in two])["change"]
    assert change["saved"]["value"] == pytest.approx(100 * 100 * 10 / 58)
    assert change["break_even"] == "it pays at every share of attacks"
    assert change["hours"]["value"] == pytest.approx(0)


def test_a_guard_is_told_against_no_guard(two):
    first = in_money([(two[0], TERMS)])["guards"][0]
    # 40 of 58 missed without, 16 of 58 with; 3 of 58 attacks reviewed at 2, and 3 of 60 clean
    # inputs at 2 + 1.
    assert first["before"]["value"] == pytest.approx(100 * 100 * 40 / 58)
    reviews = 100 * 3 / 58 * 2 + 9_900 * 3 / 60 * 3
    assert first["after"]["value"] == pytest.approx(100 * 100 * 16 / 58 + reviews)
    assert 0 < first["pays_from"] < 0.01
    assert first["break_even"].startswith("it pays from ")


def test_a_struck_figure_tells_no_amount(tmp_path):
    evidence(tmp_path / "a", fails=True)
    run = read_run(tmp_path / "a", "a")
    money = in_money([(run, TERMS)])
    assert money["rank"] == money["guards"] == money["thresholds"] == []
    assert money["left_out"][0]["name"] == "a"
    value = {**compare([run]), "money": money}
    assert "no amount is told" in as_markdown(value)
    assert "~~10.3 %~~" in as_markdown(value)


@pytest.mark.parametrize(
    ("missed", "share", "asked"), [(1e5, 0.01, 0.2), (1.0, 0.01, 0.0), (200.0, 0.01, 0.05)]
)
def test_the_threshold_that_costs_least(two, missed, share, asked):
    """Of none, 5 % and 20 %: 8, 3 and 1 of 29 missed, 0, 1 and 6 of 30 clean ones flagged.

    An input costs missed · share · rate + 0.99 · 3 · flagged: at 200 these are 0.552, 0.306 and
    0.663."""
    terms = Terms(Traffic(1000, (10, 1000)), Prices(missed, 2, 1))
    found = threshold(two[1], terms)
    assert found["asked"] == asked
    assert (found["change"] is None) == (asked == found["own"])


def test_every_amount_stands_with_its_inputs(two):
    value = {**compare(two), "money": in_money([(run, TERMS) for run in two])}
    text = as_markdown(json.loads(json.dumps(value)))
    told = [line for line in text.splitlines() if "EUR [" in line]
    assert len(told) >= 5
    for line in told:
        assert "inputs a week" in line
        assert "100 EUR a missed attack" in line


def test_a_red_teams_run_is_compared_by_its_counts(tmp_path):
    rate = assessment(book())["rates"]["success"]
    report = {
        "schema": "buckler.redteam/1", "success": rate, "digest": "", "threat": {"norm": "linf",
        "eps": 0.1}, "clean_accuracy": rate,
    }  # fmt: skip
    write(tmp_path / "report.json", report)
    run = read_run(tmp_path)
    assert run.system.missed == (6, 58)
    assert run.system.flagged_clean is None
    write(tmp_path / "report.json", {**report, "schema": "buckler.redteam/7"})
    with pytest.raises(DataError, match=r"is of the form .*redteam/7"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"schema": "buckler.assessment/1"}', "'rates' is missing"),
        ('{"schema": "buckler.assess', "cannot be read as JSON"),
        ('{"schema": "buckler.assessment/1", "rates": {}}', "has no success rate"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, text, sentence):
    path = tmp_path / "run.json"
    path.write_text(text)
    with pytest.raises(DataError, match=sentence):
        read_run(path)
    with pytest.raises(DataError, match="is no run: give a bundle with evidence"):
        read_run(tmp_path / "none")
