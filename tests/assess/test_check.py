"""The deployment check: values in, ruling out; each figure on its interval's bad end."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from buckler.assess import Ledger
from buckler.assess.check import Policy, judge_evidence
from buckler.errors import DataError, UsageError

N = 400


def ledger(broken=20, flagged=4, wrong=4):
    y = np.zeros(N, dtype=int)
    before = y.copy()
    before[:wrong] = 1
    accepted = np.ones(N, dtype=bool)
    accepted[wrong : wrong + flagged] = False
    broken_by = np.array([""] * N, dtype="<U8")
    broken_by[-broken or N :] = "PGD"
    return Ledger(
        np.arange(N), y, before, accepted, before, accepted, broken_by, broken_by != "", np.zeros(N)
    )


def rule(found=None, original=None, policy=None, **changes):
    arguments = {
        "policy": policy or Policy(),
        "digest": "d",
        "assessment": {"digest": "d", "threat": {"norm": "linf", "eps": 0.1}},
        "ledger": found or ledger(),
        "original": original or ledger(broken=0, flagged=0, wrong=4),
        "latency": {"digest": "d", "one": {"p95": 2.0, "p95_high": 3.0, "calls": 300}},
    }
    return judge_evidence(**{**arguments, **changes})


def unmet(ruling):
    return [item.name for item in ruling.items if not item.met]


def test_a_good_guard_passes_with_four_items():
    ruling = rule()
    assert ruling.passed
    assert len(ruling.items) == 4
    assert ruling.to_dict()["policy"] == asdict(Policy())


def test_each_bar_fails_on_its_own():
    assert unmet(rule(ledger(broken=58))) == ["accepted and wrong, adaptive, eps 0.1"]
    assert unmet(rule(ledger(flagged=39), policy=Policy(accuracy_ratio=0.5))) == [
        "review rate, clean inputs"
    ]
    assert unmet(rule(ledger(wrong=30))) == ["accepted and right / the original's accuracy"]
    slow = {"digest": "d", "one": {"p95": 60.0, "p95_high": 101.0, "calls": 300}}
    assert unmet(rule(latency=slow)) == ["added latency at p95, ms"]


def test_the_bad_end_decides_not_the_value():
    ruling = rule(ledger(broken=50))  # 50 of 396 is 12.6 %, its upper end is over 15 %
    item = ruling.items[3]
    assert item.value < 0.15 < item.bad_end
    assert not ruling.passed


def test_a_struck_figure_never_passes():
    ruling = rule(struck=("the unbounded attack wins only 50 %",))
    assert not ruling.passed
    assert unmet(ruling) == []


def test_paired_accuracy_is_tighter_than_unpaired():
    ruling = rule(ledger(flagged=8), original=ledger(broken=0, flagged=0))
    assert ruling.items[0].value == pytest.approx(388 / 396)
    assert 0.95 < ruling.items[0].bad_end < ruling.items[0].value


def test_agreement_on_every_row_is_no_certainty() -> None:
    """A normal approximation would give an interval of width zero here."""
    same = ledger(broken=0, flagged=0)
    item = rule(same, original=same).items[0]
    assert item.value == 1.0
    assert 0.98 < item.bad_end < 1.0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"assessment": {"digest": "x", "threat": {"norm": "linf", "eps": 0.1}}},
            "about the bundle x",
        ),
        (
            {"assessment": {"digest": "d", "threat": {"norm": "linf", "eps": 0.2}}},
            "judges at linf eps 0.1; the assessment is at linf eps 0.2",
        ),
        (
            {"assessment": {"digest": "d", "threat": {"norm": "l2", "eps": 0.1}}},
            "the assessment is at l2 eps 0.1",
        ),
        ({"latency": {"digest": "x"}}, "the latency in evidence/ is about"),
        ({"original": replace(ledger(), row=np.arange(1, N + 1))}, "different rows"),
    ],
)
def test_evidence_about_something_else_is_refused(changes, sentence):
    with pytest.raises(DataError, match=sentence):
        rule(**changes)


def test_a_policy_out_of_range_is_refused():
    with pytest.raises(UsageError, match=r"policy.success must be in \(0, 1\]"):
        Policy(success=15)
