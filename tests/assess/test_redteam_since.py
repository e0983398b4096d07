"""What is new since the last run; ids; findings sent again."""

import dataclasses
import importlib
import json
import pkgutil

import pytest
import torch

import buckler.attacks
from buckler.assess.redteam import read_finding, redteam, replay
from buckler.assess.redteam.ids import FAMILIES, family
from buckler.assess.redteam.page import since_words
from buckler.assess.redteam.since import check_since, difference
from buckler.attacks import Square, suites
from buckler.errors import DataError, UsageError
from buckler.stats import wilson
from buckler.threats import LpBall

from .redteam_targets import X, Y, by_mean, plan, report, subject

SQUARE = (Square(),)


def mended(x):
    """Bright where the mean is over 0.4: bright rows are safe, rows 11 and 14 wrong at first."""
    z = 20 * (x.flatten(1).mean(1) - 0.4)
    return torch.stack([-z, z], 1)


MARKED = X.clone()
MARKED[[1, 4], :, 0, 0] = 0  # rows 11 and 14


def marked_are_safe(x):
    """by_mean, but dark wherever the first pixel is black."""
    dark = (x[:, 0, 0, 0] < 0.2)[:, None]
    return torch.where(dark, torch.tensor([9.0, -9.0]), by_mean(x))


def run(tmp_path, model, identity, since=None, **given):
    given = {"suite": SQUARE, "queries": 500, "subject": subject(model, identity), **given}
    return redteam(plan(model, **given), tmp_path, since=since)


def pairs(since, name):
    return [each["row"] for each in since[name]]


def test_the_first_run_is_compared_with_nothing(tmp_path):
    value = report(run(tmp_path, by_mean, "a"))
    assert value["since"] is None
    assert since_words(None) == "there is no earlier run to compare with"


def test_what_is_new_gone_and_still_there(tmp_path):
    first = run(tmp_path, by_mean, "a", x=MARKED)
    then = {f["row"] for f in report(first)["findings"]}
    assert then == {11, 12, 14, 15}
    second = run(tmp_path, marked_are_safe, "b", x=MARKED)
    value = report(second)
    since = value["since"]
    assert since["run"] == first.name
    assert pairs(since, "gone") == [11, 14]
    assert pairs(since, "still") == [12, 15]
    assert pairs(since, "new") == pairs(since, "not_tried") == pairs(since, "first_tried") == []
    assert since["difference"]["value"] == pytest.approx(-2 / 6)
    assert since["difference"]["low"] < -2 / 6 < since["difference"]["high"]
    third = report(run(tmp_path, by_mean, "c", x=MARKED, since=second))["since"]
    assert third["run"] == second.name
    assert pairs(third, "new") == [11, 14]
    assert "2 new, 0 gone, 2 still; success +33.3 points" in since_words(third)


def test_rows_and_attacks_that_were_not_tried_are_told_apart(tmp_path):
    first = run(tmp_path, by_mean, "a", x=X[:3], y=Y[:3], rows=torch.arange(10, 13))
    other = {"x": X[2:], "y": Y[2:], "rows": torch.arange(12, 16)}
    value = report(run(tmp_path, by_mean, "a", suite=(Square(p=0.5),), **other))["since"]
    assert value["run"] == first.name
    assert pairs(value, "not_tried") == [11]
    assert pairs(value, "still") == [12]
    assert pairs(value, "first_tried") == [14, 15]
    assert value["attacks_changed"] == ["Square"]


def test_another_threat_is_not_compared(tmp_path):
    first = run(tmp_path, by_mean, "a")
    value = run(tmp_path, by_mean, "a", threat=LpBall("linf", 0.05))
    assert report(value)["since"] is None
    settings = json.loads((value / "run.json").read_text())
    with pytest.raises(UsageError, match=r"^--since must be a run with the same threat\."):
        check_since(first, settings)
    with pytest.raises(UsageError, match=r"^--since must be a run with the same data\."):
        check_since(value, {**settings, "data": "e"})
    with pytest.raises(DataError, match="does not exist"):
        check_since(tmp_path, settings)


def test_the_difference_of_two_rates():
    """Newcombe 1998, table II, method 10: 56/70 − 48/80, and 9/10 − 3/10."""
    found = difference(wilson(56, 70), wilson(48, 80))
    assert (round(found.low, 4), round(found.high, 4)) == (0.0524, 0.3339)
    found = difference(wilson(9, 10), wilson(3, 10))
    assert (round(found.low, 4), round(found.high, 4)) == (0.1705, 0.8090)
    same = difference(wilson(0, 10), wilson(0, 10))
    assert same.low < 0 == same.value < same.high


def test_a_finding_sent_again(tmp_path):
    folder = run(tmp_path, by_mean, "a") / "findings" / "12-square"
    assert replay(by_mean, False, folder).works
    after = replay(mended, False, folder)
    assert not after.works
    record = [json.loads(line) for line in (folder / "replays.jsonl").read_text().splitlines()]
    assert [each["works"] for each in record] == [True, False]
    assert after.adversarial == {"prediction": "bright", "status": "ACCEPTED"}

    def suspicious(x):
        return torch.cat([by_mean(x), torch.full((len(x), 1), 99.0)], 1)

    found = replay(suspicious, True, folder)
    assert not found.works, "wrong, but not accepted"
    assert found.adversarial == {"prediction": "dark", "status": "SUSPICIOUS"}
    with pytest.raises(UsageError, match=r"^the finding needs a target of 2 classes\. Got answers"):
        replay(suspicious, False, folder)


@pytest.mark.parametrize("name", ["clean.png", "adversarial.png"])
def test_an_altered_file_is_not_sent(tmp_path, name):
    folder = run(tmp_path, by_mean, "a") / "findings" / "12-square"
    (folder / name).write_bytes((folder / "difference.png").read_bytes())
    with pytest.raises(DataError, match=f"{name} was altered after the finding was written"):
        replay(by_mean, False, folder)


def test_what_is_no_finding_is_refused(tmp_path):
    folder = run(tmp_path, by_mean, "a") / "findings" / "12-square"
    with pytest.raises(DataError, match="does not exist"):
        read_finding(tmp_path)
    value = json.loads((folder / "finding.json").read_text())
    for change in ({"schema": "x/1"}, {"y": "green"}, {"sha256": {}}, {"input": {"shape": [0]}}):
        (folder / "finding.json").write_text(json.dumps({**value, **change}))
        with pytest.raises(DataError):
            read_finding(folder)


def test_every_attack_has_its_ids():
    """Whatever stands in buckler.attacks and is called like an attack."""
    found = set()
    for module in pkgutil.iter_modules(buckler.attacks.__path__, "buckler.attacks."):
        for thing in vars(importlib.import_module(module.name)).values():
            if isinstance(thing, type) and dataclasses.is_dataclass(thing):
                names = [each.name for each in dataclasses.fields(thing)]
                if thing.__module__ == module.name and names[-1:] == ["name"]:
                    found.add(thing.__name__)
    assert found >= {"FGSM", "PGD", "Square"}
    assert found <= set(FAMILIES), "add them to buckler.assess.redteam.ids"


NORMS = [("blackbox", norm) for norm in ("l2", "l1", "l0")]


@pytest.mark.parametrize(("name", "norm"), [*((name, "linf") for name in suites.NAMES), *NORMS])
def test_every_suite_has_its_ids(name, norm):
    suite = suites.by_name(name, norm=norm)
    assert suite
    for attack in suite:
        ids = family(attack).to_dict()
        assert all(each.startswith("AML.T00") for each in ids["atlas"])
        assert ids["owasp"].startswith("ML01:2023")
        assert ids["nist"].startswith("NISTAML.02")
        assert ids["cwe"] == "CWE-1039"


def test_an_attack_without_ids_is_refused():
    with pytest.raises(UsageError, match=r"^the attack Unknown has no ATLAS, NIST and OWASP ids"):
        family(dataclasses.make_dataclass("Unknown", [("name", str, "?")])())
