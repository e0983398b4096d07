"""When a request is sent again: by a clock that only the test moves."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.client.again import Patience, Turn, turns
from buckler.client.replies import Broken, Reply
from buckler.errors import UsageError

REFUSED = Broken("connection refused", sent=False)
RESET = Broken("reset")
GOOD = Reply(200, {})


def busy(status: int, after: str = "1") -> Reply:
    return Reply(status, {"retry-after": after})


def drive(
    outcomes: Sequence[Reply | Broken],
    *,
    tries: int = 5,
    deadline_s: float = 30.0,
    twice: bool = True,
    chance: float = 0.0,
) -> tuple[list[Turn], Reply | Broken]:
    """The turns taken, where each request takes no time, and what counted."""
    now = 0.0
    steps = turns(tries, deadline_s, twice, lambda: now, lambda: chance)
    taken: list[Turn] = []
    outcome = iter(outcomes)
    try:
        turn = next(steps)
        while True:
            taken.append(turn)
            now += turn.wait_s
            assert turn.timeout_s == pytest.approx(deadline_s - now)
            turn = steps.send(next(outcome))
    except StopIteration as done:
        return taken, done.value


def waits(*outcomes: Reply | Broken, **given: float) -> list[float]:
    return [turn.wait_s for turn in drive(outcomes, **given)[0]]  # type: ignore[arg-type]


def test_a_good_answer_is_taken() -> None:
    assert drive([GOOD]) == ([Turn(0.0, 30.0)], GOOD)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 500, 504])
def test_these_are_final(status: int) -> None:
    assert drive([busy(status)])[1].status == status  # type: ignore[union-attr]


def test_busy_waits_as_long_as_it_says() -> None:
    assert waits(busy(429, "2"), busy(503, "3"), GOOD) == [0.0, 2.0, 3.0]


def test_without_retry_after_503_is_final() -> None:
    assert waits(Reply(503, {})) == [0.0]
    assert waits(Reply(429, {})) == [0.0]


def test_what_is_no_number_of_seconds_is_no_command() -> None:
    for strange in ("Wed, 21 Oct 2026 07:28:00 GMT", "-5", "1e9", "9" * 30, "²"):
        assert waits(busy(429, strange), GOOD) == [0.0, 0.1]


def test_broken_connections_wait_longer_each_time() -> None:
    assert waits(RESET, REFUSED, RESET, GOOD) == [0.0, 0.1, 0.2, 0.4]


def test_jitter_is_never_earlier_than_asked() -> None:
    assert waits(busy(429, "4"), GOOD, chance=0.999) == [0.0, pytest.approx(5.0, abs=0.01)]


def test_a_wait_past_the_deadline_is_not_begun() -> None:
    assert drive([busy(429, "31")]) == ([Turn(0.0, 30.0)], busy(429, "31"))


def test_tries_are_counted() -> None:
    assert drive([busy(503)] * 3, tries=3)[1] == busy(503)


def test_what_may_not_arrive_twice() -> None:
    """It is sent again only where it certainly was not taken."""
    assert waits(REFUSED, busy(429), GOOD, twice=False) == [0.0, 0.1, 1.0]
    assert drive([RESET], twice=False)[1] == RESET
    assert drive([busy(503)], twice=False)[1] == busy(503)


OUTCOMES = st.sampled_from([REFUSED, RESET, GOOD, busy(429, "7"), busy(503, "0"), busy(500)])


@given(
    outcomes=st.lists(OUTCOMES, min_size=9, max_size=9),
    tries=st.integers(1, 9),
    deadline_s=st.floats(0.1, 60),
    chance=st.floats(0, 0.999),
    twice=st.booleans(),
)
def test_always(
    outcomes: list[Reply | Broken], tries: int, deadline_s: float, chance: float, twice: bool
) -> None:
    taken, counted = drive(outcomes, tries=tries, deadline_s=deadline_s, chance=chance, twice=twice)
    assert 1 <= len(taken) <= tries
    assert sum(turn.wait_s for turn in taken) < deadline_s
    assert all(turn.timeout_s > 0 for turn in taken)
    assert counted == outcomes[len(taken) - 1], "the last answer counts"
    if GOOD in outcomes[: len(taken)]:
        assert counted == GOOD, "what was answered is not asked again"


def test_no_patience_is_none() -> None:
    with pytest.raises(UsageError, match="deadline_s > 0 and tries >= 1"):
        Patience(deadline_s=0)
    with pytest.raises(UsageError, match=r"Got 30\.0 and 0"):
        Patience(tries=0)
