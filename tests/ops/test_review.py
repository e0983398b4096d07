"""The rules of the queue, against tables worked out by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.ops.flood import Place, fingerprint, is_near, place
from buckler.ops.review import (
    Answer,
    Policy,
    check_answer,
    is_free,
    lease_until,
    normal,
    priority,
    rule,
    true_class,
)
from buckler.ops.sampling import draw, estimate, is_known_turn, is_sampled, measure

ACCEPT, CAT, DOG, UNSURE = (
    Answer("accept"),
    Answer("label", "cat"),
    Answer("label", "dog"),
    Answer("unsure"),
)


def test_no_torch_sql_or_http_comes_along():
    code = (
        "import sys, buckler.ops.review, buckler.ops.flood, buckler.ops.sampling, "
        "buckler.ops.access; print([n for n in ('torch', 'sqlalchemy', 'fastapi', 'uvicorn') "
        "if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr


def test_risk_times_age():
    assert priority(0.2, 0, 1000) > priority(0.9, 900, 1000) > priority(0.1, 900, 1000)
    assert priority(0.5, 10, 10) == priority(0.5, 10.5, 11) == 0.5


def test_a_lease_ends_at_its_end():
    until = lease_until(100, Policy())
    assert until == 700
    assert [is_free(until, now) for now in (699.9, 700, 701)] == [False, True, True]
    assert is_free(None, 0)


@pytest.mark.parametrize(
    ("answers", "agree", "of", "level", "state", "answer"),
    [
        ([], 1, 1, 0, "open", None),
        ([ACCEPT], 1, 1, 0, "decided", ACCEPT),
        ([UNSURE], 1, 1, 0, "escalate", None),
        ([ACCEPT], 2, 3, 0, "open", None),
        ([ACCEPT, ACCEPT], 2, 3, 0, "decided", ACCEPT),
        ([CAT, DOG], 2, 3, 0, "open", None),
        ([CAT, DOG, CAT], 2, 3, 0, "decided", CAT),
        ([CAT, DOG, ACCEPT], 2, 3, 0, "escalate", None),
        ([CAT, DOG], 3, 3, 0, "escalate", None),
        ([CAT, CAT, UNSURE], 3, 3, 0, "escalate", None),
        ([UNSURE, ACCEPT], 1, 1, 1, "open", None),
        ([CAT, UNSURE, Answer("unsure", None, True)], 1, 1, 1, "open", None),
        ([CAT, Answer("accept", None, True)], 2, 3, 1, "decided", Answer("accept", None, True)),
    ],
)
def test_what_answers_amount_to(answers, agree, of, level, state, answer):
    found = rule(answers, Policy(agree=agree, of=of), level)
    assert (found.state, found.answer) == (state, answer)


@given(st.lists(st.sampled_from([ACCEPT, CAT, DOG]), max_size=6), st.integers(1, 4))
def test_a_decision_has_its_votes_and_escalation_means_it_cannot(answers, agree):
    policy = Policy(agree=agree, of=max(agree, len(answers)))
    found = rule(answers, policy, 0)
    most = max((answers.count(each) for each in answers), default=0)
    if found.state == "decided":
        assert answers.count(found.answer) >= agree
    if found.state == "escalate":
        assert most + policy.of - len(answers) < agree
    if found.state == "open":
        assert most < agree


def test_answers_are_checked_and_told():
    with pytest.raises(UsageError, match=r"must be one of accept, label, .* Got 'maybe'"):
        check_answer("maybe", None)
    with pytest.raises(UsageError, match="needs the true class"):
        check_answer("label", "")
    with pytest.raises(UsageError, match=r"takes no label\. Got 'cat'"):
        check_answer("accept", "cat")
    assert check_answer("adversarial", None) == Answer("adversarial")
    assert normal(CAT, "cat") == ACCEPT
    assert normal(CAT, "dog") == CAT
    assert true_class(ACCEPT, "dog") == "dog"
    assert true_class(Answer("adversarial", "cat"), "dog") == "cat"
    assert true_class(Answer("corrupted"), "dog") is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"agree": 2}, "agree must be 1 or more and at most of. Got 2 of 1"),
        ({"lease_s": 0}, "must be seconds above 0"),
        ({"on_due": "panic"}, "must be alert, escalate or close. Got 'panic'"),
        ({"client_cap": 0}, "client_cap must be 1 or more"),
        ({"known_share": 1.0}, "must lie in"),
    ],
)
def test_a_policy_that_cannot_work_is_one_sentence(values, said):
    with pytest.raises(UsageError, match=said):
        Policy(**values)


def test_a_flood_is_grouped_and_capped():
    policy = Policy(client_cap=2, near_bits=4)
    leaders = [("a", "00" * 8), ("b", "ff" * 8)]
    assert place("00" * 7 + "0f", leaders, 2, policy) == Place("grouped", "a")
    assert place("00" * 7 + "1f", leaders, 2, policy) == Place("parked")
    assert place("00" * 7 + "1f", leaders[:1], 1, policy) == Place("waiting")
    assert place("", [("a", "")], 0, policy) == Place("waiting")
    assert not is_near("zz" * 8, "zy" * 8, 63)
    assert is_near("anything", "anything", 0)


def test_fingerprints_bear_small_changes_and_tell_pictures_apart():
    rng = np.random.default_rng(0)
    for size in (8, 28, 33, 5):
        x = rng.random((3, size, size))
        noisy = x + rng.uniform(-0.01, 0.01, x.shape)
        assert len(fingerprint(x)) == 16
        assert is_near(fingerprint(x), fingerprint(noisy), 6)
        assert not is_near(fingerprint(x), fingerprint(rng.random(x.shape)), 6)
    row = rng.random(30)
    assert fingerprint(row) == fingerprint(row * 1.00001)
    assert fingerprint(row) != fingerprint(row[::-1])


def test_a_sample_is_a_share_that_only_the_secret_foresees():
    drawn = [is_sampled(b"secret", "key", str(n), 0, 0.1) for n in range(20_000)]
    # Binomial: outside these bounds once in ten thousand seeds; this one is fixed.
    assert 0.092 < sum(drawn) / len(drawn) < 0.108
    other = [is_sampled(b"another", "key", str(n), 0, 0.1) for n in range(20_000)]
    assert drawn != other
    assert 0 <= draw(b"", "a") < 1
    assert draw(b"s", "a", "b") == draw(b"s", "a", "b") != draw(b"s", "b", "a")
    turns = [is_known_turn(b"s", "ann", n, 0.05) for n in range(2000)]
    assert 60 < sum(turns) < 140


def test_reviewers_are_measured_on_known_items():
    assert measure([]) is None
    pairs = [(CAT, CAT, "dog"), (Answer("label", "dog"), ACCEPT, "dog"), (ACCEPT, CAT, "dog")]
    found = measure(pairs)
    assert (found.k, found.n) == (2, 3)
    assert found.low < 2 / 3 < found.high


def test_the_estimate_is_unbiased_where_the_flagged_alone_mislead():
    """10,000 rows, 3 % of the accepted wrong and 60 % of the flagged."""
    rng = np.random.default_rng(1)
    accepted, suspicious = 9500, 500
    truth = (0.03 * accepted + 0.6 * suspicious) / 10_000
    found = []
    covered = 0
    for _ in range(300):
        sample = int(rng.binomial(475, 0.03)), 475
        flagged = int(rng.binomial(500, 0.6)), 500
        one = estimate(accepted, sample, suspicious, flagged)
        found.append(one.wrong)
        covered += one.low <= truth <= one.high
    assert abs(np.mean(found) - truth) < 0.001
    assert covered >= 285
    assert estimate(10, (0, 0), 0, (0, 0)) is None
    assert estimate(10, (0, 5), 3, (0, 0)) is None
    assert estimate(10, (1, 5), 0, (0, 0)).wrong == 0.2
