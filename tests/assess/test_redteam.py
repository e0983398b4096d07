"""Red-team runs on targets whose answers are known: budgets, resuming, findings, what is new."""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from buckler.assess.redteam import redteam
from buckler.assess.redteam.line import hashes
from buckler.assess.redteam.report import summarised
from buckler.attacks import OnePixel, Square
from buckler.attacks.hopskipjump import HopSkipJump
from buckler.errors import DataError, UsageError
from buckler.threats import LpBall, PixelBudget

from .redteam_targets import (
    NARROW,
    NEAR,
    Asked,
    X,
    audit,
    by_mean,
    by_median,
    findings,
    plan,
    report,
    subject,
)


@dataclass(frozen=True)
class Greedy:
    """Asks about x, one after the other, as long as it is answered."""

    together: int = 7
    name: str = "Square"  # its class has no ids: see the test of the table

    def __call__(self, model, x, y, threat, *, seed=0, rows=None):
        while True:
            model(x.repeat(self.together, 1, 1, 1))


@pytest.fixture(autouse=True)
def _greedy_has_ids(monkeypatch):
    from buckler.assess.redteam import ids

    monkeypatch.setitem(ids.FAMILIES, "Greedy", ids.QUERIES)


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def test_exactly_the_rows_within_eps_of_the_border_are_won(tmp_path):
    folder = redteam(plan(by_mean), tmp_path)
    value = report(folder)
    assert value["ended"] == "done"
    assert {(f["row"], f["attack"]) for f in value["findings"]} == {
        (10 + place, name) for place in NEAR for name in ("Square", "SimBA")
    }
    assert (value["success"]["k"], value["success"]["n"]) == (len(NEAR), len(X))
    assert value["success_as_file"]["k"] == len(NEAR)
    assert value["rows"] == {"asked": 6, "right": 6, "finished": 6}
    assert [c["success"]["k"] for c in value["classes"]] == [2, 2]
    square = value["attacks"][0]
    mine = [f["queries"] for f in value["findings"] if f["attack"] == "Square"]
    assert square["median_queries_to_win"] == np.median(mine)
    assert square["ids"]["atlas"][0].startswith("AML.T0043.001")
    text = (folder / "report.md").read_text()
    assert "66.7 % [30.0–90.3]" in text
    assert (folder / "report.html").read_text().count("<figure>") == 2 * len(NEAR)


def test_the_budget_is_a_hard_stop_and_every_query_is_in_the_audit(tmp_path):
    asked, narrow = Asked(), LpBall("linf", NARROW)
    given = plan(asked, suite=(Greedy(),), queries=50, per_row=20, threat=narrow)
    folder = redteam(given, tmp_path)
    value = report(folder)
    assert (value["ended"], value["spent"]) == ("budget spent", 50)
    lines = audit(folder)
    assert len(asked.rows) == len(lines) == 50
    assert [line["n"] for line in lines] == list(range(1, 51))
    assert [line["sha256"] for line in lines] == hashes(torch.stack(asked.rows))
    assert [line["row"] for line in lines] == [*range(10, 16), *[10] * 20, *[11] * 20, *[12] * 4]
    assert {line["attack"] for line in lines[6:]} == {"Square"}
    assert lines[0]["prediction"] == "dark"
    assert lines[0]["status"] == "ACCEPTED"
    assert lines[0]["at"].endswith("Z")
    # A row cut off by the end of the budget is in no rate.
    assert value["rows"]["finished"] == 2
    assert value["success"]["n"] == 2


def test_a_row_that_not_every_attack_has_finished_is_in_no_rate_even_if_won():
    """Else a run that ends early would count the wins of its last row, and not its defeats."""
    settings = plan(by_mean).settings()
    clean = [
        {"attack": "clean", "row": row, "y": "dark", "prediction": "dark", "status": "ACCEPTED"}
        for row in (10, 11)
    ]
    facts = {"y": "dark", "queries": 5, "as_file": None, "after": {}, "distance": 0.1}
    won = {**facts, "won": True, "finding": "f"}
    tried = [
        {**facts, "attack": "Square", "row": 10, "won": False},
        {**facts, "attack": "SimBA", "row": 10, "won": False},
        {**won, "attack": "Square", "row": 11},
    ]
    value = summarised(settings, [*clean, *tried], {})
    assert (value["success"]["k"], value["success"]["n"]) == (0, 1)
    assert "success_as_file" not in value, "no file was asked about"
    assert [each["row"] for each in value["findings"]] == [11], "it is reported all the same"
    assert [(a["broken"], a["given"]) for a in value["attacks"]] == [(1, 2), (0, 1)]
    assert value["attacks"][0]["median_queries_to_win"] == 5
    assert "median_queries_to_win" not in value["attacks"][1]


def test_a_sha_is_of_the_float32_values():
    want = hashlib.sha256(X[0].numpy().tobytes()).hexdigest()
    assert hashes(X[:1].double()) == [want]


@pytest.mark.parametrize("attack", [Square(), HopSkipJump(), OnePixel()])
def test_no_row_gets_more_than_its_share(tmp_path, attack):
    threat = PixelBudget(1) if isinstance(attack, OnePixel) else LpBall("linf", NARROW)
    folder = redteam(plan(by_median, suite=(attack,), queries=6 + 6 * 31, threat=threat), tmp_path)
    counts = dict.fromkeys(range(10, 16), 0)
    for line in audit(folder)[6:]:
        counts[line["row"]] += 1
    assert set(counts.values()) == {30}, "the 31st is kept for the question about the file"
    assert report(folder)["ended"] == "done"


def test_too_few_queries_are_refused_before_anything_is_asked():
    asked = Asked()
    with pytest.raises(UsageError, match=r"^20 queries are too few for 6 rows and 2 attacks: give"):
        plan(asked, queries=20)
    assert not asked.calls


def _cut_and_whole(tmp_path, cut: Callable[[int], None]) -> tuple[Asked, Asked]:
    """A run that is cut off and gone on with, and one that is not; both end the same."""
    whole, parts = Asked(), Asked(then=cut)
    straight = redteam(plan(whole), tmp_path / "whole")
    with pytest.raises(RuntimeError, match="killed"):
        redteam(plan(parts), tmp_path / "cut")
    parts.then = lambda call: None
    again = redteam(plan(parts), tmp_path / "cut")
    assert len(list((tmp_path / "cut" / "runs").iterdir())) == 1
    assert findings(again) == findings(straight)
    kept = ("success", "success_as_file", "attacks", "classes", "findings", "rows")
    assert all(report(again)[name] == report(straight)[name] for name in kept)
    return whole, parts


@pytest.mark.parametrize("call", [1, 2, 5, 9, 40])
def test_a_run_that_was_killed_goes_on_and_asks_nothing_twice(tmp_path, call):
    def cut(now):
        if now == call:
            raise RuntimeError("killed")

    whole, parts = _cut_and_whole(tmp_path, cut)
    assert len(parts.rows) == len(whole.rows)
    assert all(torch.equal(a, b) for a, b in zip(parts.rows, whole.rows, strict=True))


def test_a_query_without_an_answer_is_in_the_audit_too(tmp_path):
    def cut(now):
        if now == 5:
            raise RuntimeError("killed")

    asked = Asked(then=cut)
    with pytest.raises(RuntimeError):
        redteam(plan(asked), tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    last = audit(folder)[-1]
    assert (last["status"], last["prediction"]) == ("NO ANSWER", None)
    assert last["n"] == len(audit(folder)) == len(asked.rows) + 1


def test_a_torn_last_line_is_no_obstacle(tmp_path):
    straight = redteam(plan(by_mean), tmp_path / "whole")
    calls = iter(range(100))
    with pytest.raises(RuntimeError):
        redteam(plan(by_mean), tmp_path / "cut", stop=lambda: _raise_at(next(calls), 9))
    (folder,) = (tmp_path / "cut" / "runs").iterdir()
    for name in ("state", "audit", "pending"):
        with (folder / f"{name}.jsonl").open("ab") as stream:
            stream.write(b'{"attack": "Squ')
    again = redteam(plan(by_mean), tmp_path / "cut")
    assert findings(again) == findings(straight)


def _raise_at(now, call):
    if now == call:
        raise RuntimeError("killed")
    return False


def test_two_runs_in_one_folder_are_refused(tmp_path):
    other = []

    def meanwhile(call):
        if call == 3:
            with pytest.raises(UsageError, match=r"^another run is at work in .*: wait until it"):
                redteam(plan(by_mean), tmp_path)
            other.append(call)

    folder = redteam(plan(Asked(then=meanwhile)), tmp_path)
    assert other == [3]
    assert report(folder)["ended"] == "done"


def test_an_altered_journal_is_refused(tmp_path):
    folder = redteam(plan(by_mean), tmp_path, stop=lambda: True)
    (folder / "state.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match=r"state\.jsonl, line 1, is no JSON object: the file was"):
        redteam(plan(by_mean), tmp_path)


def test_the_stop_switch(tmp_path):
    whole = Asked()
    redteam(plan(whole), tmp_path / "whole")

    def throw(call):
        if call == 6:
            (folder,) = (tmp_path / "cut" / "runs").iterdir()
            (folder / "STOP").touch()

    asked = Asked(then=throw)
    folder = redteam(plan(asked), tmp_path / "cut")
    assert asked.calls == 6, "the present call is the last"
    assert report(folder)["ended"] == "stopped"
    assert report(folder)["spent"] == len(audit(folder)) == len(asked.rows)
    assert redteam(plan(asked), tmp_path / "cut") == folder
    assert asked.calls == 6, "it stays thrown until someone removes it"
    (folder / "STOP").unlink()
    assert redteam(plan(asked), tmp_path / "cut") == folder
    assert report(folder)["ended"] == "done"
    assert len(asked.rows) == len(whole.rows)


def test_other_settings_get_a_folder_of_their_own(tmp_path):
    first = redteam(plan(by_mean), tmp_path, stop=lambda: True)
    others = [
        plan(by_mean, threat=LpBall("linf", 0.2)),
        plan(by_mean, seed=1),
        plan(by_mean, queries=690),
        plan(by_mean, suite=(Square(),)),
        plan(by_mean, data="e"),
        plan(by_mean, subject=subject(by_mean, "other weights")),
    ]
    folders = {redteam(other, tmp_path, stop=lambda: True) for other in others}
    assert len({first, *folders}) == 7
    assert redteam(plan(by_mean), tmp_path) == first
    again = redteam(plan(by_mean), tmp_path)
    assert again.name == f"{first.name}-2", "a run that is over is not gone on with"
