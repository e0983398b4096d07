"""The deployment check: values in, ruling out; each figure on its interval's bad end."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from buckler.assess import Ledger
from buckler.assess.check import Previous, judge_evidence
from buckler.assess.policy import Policy
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


def asked(**bars):
    """The items that the policy asks for beside the usual four, by rule."""
    extra = {key: bars.pop(key) for key in list(bars) if key in ITS_OWN}
    return {item.rule: item for item in rule(policy=Policy(**bars), **extra).items[4:]}


ITS_OWN = ("certificates",)


def certificates(right=30, wrong=5, far=0.4, digest="d"):
    rows = [{"row": i, "y": 0, "label": 0, "radius": far} for i in range(right)]
    rows += [{"row": i, "y": 0, "label": 1, "radius": 0.9} for i in range(wrong)]
    rows += [{"row": i, "y": 0, "label": None, "radius": 0.0} for i in range(15)]
    return {"digest": digest, "certificates": rows}


def test_clean_accuracy_is_judged_on_its_low_end():
    item = asked(clean_accuracy=0.98)["clean-accuracy"]
    assert item.value == pytest.approx(396 / 400)
    assert item.bad_end < 0.98 < item.value
    assert not item.met


def test_a_warning_passes_unless_the_policy_asks_for_more():
    assert rule(battery="warn").passed
    assert not rule(policy=Policy(battery="pass"), battery="warn").passed
    assert rule(policy=Policy(battery="pass"), battery="pass").passed


def test_certified_accuracy_counts_rows_that_are_right_and_far_enough():
    policy = {"certified_accuracy": 0.4, "certified_radius": 0.25}
    item = asked(**policy, certificates=certificates())["certified-accuracy"]
    assert (item.value, item.n) == (30 / 50, 50)
    assert item.bad_end == pytest.approx(0.4618, abs=1e-4)  # Wilson, 30 of 50
    assert item.met
    near = asked(**policy, certificates=certificates(far=0.2))["certified-accuracy"]
    assert (near.value, near.met) == (0.0, False)


def test_nothing_may_be_lost_against_the_previous_bundle():
    """Of 400 rows 20 are broken now, 10 of them were not before; paired by row."""

    def against(before):
        assessment = {"threat": {"norm": "linf", "eps": 0.1}}
        found = rule(previous=Previous(assessment, before)).items[4:]
        return {item.rule: item for item in found}

    same = against(ledger())
    assert all(item.met and item.value == 0 for item in same.values())
    lost = against(ledger(broken=10))["regression-attack"]
    assert lost.value == pytest.approx(10 / 400)
    assert lost.bad_end == pytest.approx(0.0454, abs=1e-3)  # Wilson's upper end of 10 of 400
    assert not lost.met
    won = against(ledger(broken=30))["regression-attack"]
    assert won.value == pytest.approx(-10 / 400)
    assert won.met


def test_floors_hold_for_every_class():
    found = ledger(broken=0, flagged=0, wrong=0)
    y = found.y.copy()
    y[:40] = 1  # class "b": forty rows, of which one is right
    before = found.prediction_before.copy()
    before[0] = 1
    two = replace(found, y=y, prediction_before=before)
    ruling = rule(
        two, two, policy=Policy(class_accuracy=0.5, class_robust=0.5), class_names=("a", "b")
    )
    floors = [item for item in ruling.items if item.subject]
    assert [(item.rule, item.subject, item.met) for item in floors] == [
        ("class-accuracy", "a", True),
        ("class-accuracy", "b", False),
        ("class-robust", "a", True),
        ("class-robust", "b", False),
    ]
    assert floors[1].value == pytest.approx(1 / 40)


OTHER = {"threat": {"norm": "linf", "eps": 0.3}}
SAME = {"threat": {"norm": "linf", "eps": 0.1}}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"policy": Policy(certified_accuracy=0.5, certified_radius=0.1)},
            "run buckler certify on this bundle",
        ),
        (
            {
                "policy": Policy(certified_accuracy=0.5, certified_radius=0.1),
                "certificates": certificates(digest="x"),
            },
            "the certificates in evidence/ is about the bundle x",
        ),
        ({"previous": Previous(OTHER, ledger())}, "the previous bundle's is at linf eps 0.3"),
        (
            {"previous": Previous(SAME, replace(ledger(), row=np.arange(1, N + 1)))},
            "assessed on other rows",
        ),
        (
            {"policy": Policy(class_robust=0.1), "class_names": ("a", "b")},
            "none of the 400 rows assessed is of 'b'",
        ),
    ],
)
def test_what_was_not_measured_is_not_judged(changes, sentence):
    with pytest.raises(DataError, match=sentence):
        rule(**changes)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"certified_accuracy": 0.5}, "go together"),
        ({"battery": "fail"}, "must be 'warn' or 'pass'"),
        ({"regression": 2.0}, r"policy.regression must be in \(0, 1\]"),
        ({"certified_accuracy": 0.5, "certified_radius": 0.0}, "must be > 0"),
    ],
)
def test_a_policy_that_cannot_be_ruled_by_is_refused(wrong, sentence):
    with pytest.raises(UsageError, match=sentence):
        Policy(**wrong)
