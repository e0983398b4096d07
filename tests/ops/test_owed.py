"""Whether a retrain is owed: each sign by itself, and rates by their interval alone."""

import pytest

from buckler.errors import UsageError
from buckler.ops.owed import Limits, Signs, due
from buckler.ops.retraining import GoldenLoss
from buckler.ops.sampling import estimate

LIMITS = Limits(confirmed=10, wrong=0.02)


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        (Signs(pages=("tail", "rate")), "alarms that paged: 2, the last: rate"),
        (Signs(golden=(GoldenLoss(1000, 9, 2, 0.03),)), "lost 7 of 1000 rows (0.70 points)"),
        (Signs(redteam=(0.10, 0.02, 0.18)), "rose by 10.0 points [2.0 to 18.0]"),
        (Signs(confirmed=10), "confirmed 10 attacks (10 are enough)"),
        (Signs(reviewed=estimate(900, (20, 200), 100, (5, 50))), "20 of 200 ACCEPTED rows"),
    ],
)
def test_each_sign_owes_a_retrain(signs, words):
    found = due(signs, LIMITS)
    assert found
    (reason,) = found.reasons
    assert words in reason


@pytest.mark.parametrize(
    "signs",
    [
        Signs(),
        Signs(golden=(GoldenLoss(1000, 9, 4, 0.1), GoldenLoss(0, 0, 0, 1.0))),
        Signs(redteam=(0.10, -0.01, 0.21)),
        Signs(redteam=(-0.10, -0.2, -0.01)),
        Signs(confirmed=9),
        Signs(reviewed=estimate(900, (2, 40), 100, (5, 50))),  # 5 %, and 1.4 % is as likely
    ],
)
def test_no_sign_by_chance_owes_one(signs):
    assert not due(signs, LIMITS)


def test_limits_that_cannot_be():
    with pytest.raises(UsageError, match=r"Got 0 and 0\.02"):
        Limits(confirmed=0)
    with pytest.raises(UsageError, match="wrong in"):
        Limits(wrong=1)
