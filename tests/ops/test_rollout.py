"""The rules of a rollout: each state, each way out of it, and what must hold in all of them."""

from dataclasses import replace
from itertools import pairwise
from math import log

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.errors import ConflictError, UsageError
from buckler.ops.arms import salt, side
from buckler.ops.evidence import Arm, Observations, Policy, Report, as_good, merge, too_much, worse
from buckler.ops.pairs import NO_PAIRS, Pairs
from buckler.ops.rollout import ENDS, STAGES, Rollout, advance, missing, order

POLICY = Policy()
EQUAL = Pairs(15, 15, 2000)


def good(requests: int = 0, **more: object) -> Report:
    """Of a candidate that is as good, after so many of its answers."""
    given = {
        "loaded": True,
        "candidate": Arm(requests),
        "stable": Arm(requests),
        "pairs": EQUAL,
        "paired_clients": 50,
        "clean": EQUAL,
        "missed": EQUAL,
        "wrong": EQUAL,
        "probes": 5000 + requests,
        **more,
    }
    return Report(**given)  # type: ignore[arg-type]


def seen(requests: int = 0, gateways: int = 1, **more: object) -> Observations:
    return merge([good(requests, **more)] * gateways)


def run(rollout: Rollout, observed: Observations, seconds: float) -> tuple[Rollout, list[str]]:
    """Looks every 60 s for so long, all of them the same."""
    done: list[str] = []
    now = rollout.clock or 0.0
    for _ in range(int(seconds / 60)):
        now += 60
        rollout, actions = advance(rollout, observed, now, POLICY)
        done += [each.kind for each in actions]
    return rollout, done


def in_state(state: str, **more: object) -> Rollout:
    return Rollout(state=state, clock=0.0, **more)  # type: ignore[arg-type]


def test_a_good_candidate_goes_all_the_way_and_no_faster_than_it_may() -> None:
    rollout, actions, states, now = Rollout(), [], [], 0.0
    for look in range(1000):
        before, now = rollout.state, now + 30
        rollout, done = advance(rollout, seen(10 * look), now, POLICY)
        actions += [(each.kind, each.weight) for each in done]
        if rollout.state != before:
            states.append((before, now))
        if rollout.ended:
            break
    assert [state for state, _ in states] == ["DRAFT", "VALIDATING", *STAGES]
    assert rollout.state == "COMPLETED"
    assert actions == [
        ("load", 0),
        ("weigh", 0),
        ("weigh", 10),
        ("weigh", 50),
        ("weigh", 100),
        ("promote", 0),
    ]
    times = dict(states)
    gaps = [times[b] - times[a] for a, b in zip(("VALIDATING", *STAGES), STAGES, strict=False)]
    assert gaps == list(POLICY.min_s)
    assert advance(rollout, seen(), now + 10, POLICY) == (rollout, ())


@pytest.mark.parametrize("state", ["DRAFT", "VALIDATING", *STAGES, "PAUSED"])
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ({"pairs": Pairs(80, 0, 2000)}, "more inputs SUSPICIOUS"),
        ({"pairs": Pairs(0, 80, 2000)}, "fewer inputs SUSPICIOUS"),
        ({"missed": Pairs(80, 0, 2000)}, "known attacks"),
        ({"wrong": Pairs(80, 0, 2000)}, "wrong class"),
        ({"candidate": Arm(1000, 50)}, "fails too often"),
        ({"candidate": Arm(1000, 0, 100)}, "too slow"),
        ({"refused": "no such folder"}, "no such folder"),
    ],
)
def test_a_bad_candidate_is_rolled_back_in_every_state(
    state: str, bad: dict[str, object], why: str
) -> None:
    paused = "STEP_50" if state == "PAUSED" else None
    rollout, actions = advance(in_state(state, paused=paused), seen(1000, **bad), 1.0, POLICY)
    assert rollout.state == "ROLLED_BACK"
    assert why in rollout.reason
    assert [each.kind for each in actions] == ["clear", "alert"]
    assert rollout.weight == 0


@pytest.mark.parametrize("state", ["VALIDATING", *STAGES])
def test_no_data_never_promotes_and_pauses_in_the_end(state: str) -> None:
    rollout, done = run(in_state(state), Observations(), POLICY.max_s + 100)
    assert (rollout.state, rollout.paused) == ("PAUSED", state)
    assert rollout.reason.startswith("inconclusive: ")
    assert done == ["alert"]
    assert rollout.weight == in_state(state).weight, "who was moved stays where they are"
    again, done = run(rollout, Observations(), 6000.0)
    assert again.state == "PAUSED"
    assert not done


@pytest.mark.parametrize(
    ("lacking", "name"),
    [
        ({"pairs": Pairs(3, 3, 400)}, "pairs of clients"),
        ({"paired_clients": 19}, "clients with pairs"),
        ({"missed": Pairs(0, 0, 100)}, "golden adversarial"),
        ({"wrong": Pairs(0, 0, 100)}, "golden clean"),
        ({"probes": 0}, "fresh golden probes"),
        ({"candidate": Arm(199)}, "fresh answers"),
        ({"pairs": Pairs(200, 190, 200)}, "as good within 0.03 (fewer)"),
    ],
)
def test_each_thing_that_lacks_holds_it(lacking: dict[str, object], name: str) -> None:
    rollout, done = run(in_state("STEP_10"), seen(1000, **lacking), 7200)
    assert rollout.state == "STEP_10"
    assert not done
    assert any(name in each for each in missing(rollout, seen(1000, **lacking), POLICY))


def test_what_was_seen_before_a_stage_does_not_pass_it() -> None:
    rollout, _ = advance(in_state("SHADOW", elapsed=1e4), seen(5000), 1.0, POLICY)
    assert rollout.state == "STEP_10"
    rollout, _ = run(rollout, seen(5000), 7200)
    assert rollout.state == "STEP_10", "its 5,000 answers are older than this stage"


def test_a_clock_that_goes_back_or_leaps_proves_nothing() -> None:
    rollout, _ = advance(in_state("SHADOW"), seen(), -86_400.0, POLICY)
    assert rollout.elapsed == 0.0
    rollout, _ = advance(rollout, seen(), -86_390.0, POLICY)
    assert rollout.elapsed == 10.0, "it goes on from there, at once"
    rollout, _ = advance(rollout, seen(), 10 * 86_400.0, POLICY)
    assert rollout.elapsed == 70.0
    assert rollout.state == "SHADOW"


def test_counters_that_go_back_pause_and_are_not_believed() -> None:
    rollout, _ = advance(in_state("STEP_50"), seen(1000), 10.0, POLICY)
    rollout, actions = advance(rollout, seen(10), 20.0, POLICY)
    assert rollout.state == "PAUSED"
    assert "counters went back" in rollout.reason
    assert [each.kind for each in actions] == ["alert"]


def test_a_crashed_gateways_counts_stay_and_are_not_counted_twice() -> None:
    alive, dead = good(100), good(40)
    both = merge([alive], [dead], crashed=1)
    assert both.report.candidate.requests == 140
    assert both.report.pairs.n == 2 * EQUAL.n
    assert both.report.missed.n == EQUAL.n, "golden rows are the same ones everywhere"
    assert (both.gateways, both.loaded, both.crashed) == (1, 1, 1)


def test_gateways_that_end_without_a_word_roll_it_back() -> None:
    crashed = replace(seen(1000), crashed=3)
    assert advance(in_state("STEP_10"), crashed, 1.0, POLICY)[0].state == "ROLLED_BACK"
    assert advance(in_state("VALIDATING"), crashed, 1.0, POLICY)[0].state == "SHADOW"
    assert advance(in_state("STEP_10"), replace(crashed, crashed=2), 1.0, POLICY)[0].state == (
        "STEP_10"
    )


def test_clients_that_do_not_divide_as_asked_pause_it() -> None:
    rollout, _ = advance(in_state("STEP_10"), seen(1000, split=7.0), 1.0, POLICY)
    assert rollout.state == "PAUSED"
    assert "do not divide" in rollout.reason


def test_one_client_does_not_decide() -> None:
    one = Pairs(64, 0, 0)
    loud = seen(100, pairs=Pairs(5, 5, 500) + one, heavy={"loud": one, "other": Pairs(2, 0, 10)})
    assert worse(loud.report, replace(POLICY, left_out=0))["more"] > log(1 / POLICY.alpha)
    assert worse(loud.report, POLICY)["more"] < log(1 / POLICY.alpha)
    quiet = seen(100, pairs=Pairs(5, 69, 500), heavy={"loud": Pairs(0, 64, 0)})
    assert worse(quiet.report, POLICY)["fewer"] < log(1 / POLICY.alpha)


def test_fewer_shows_on_golden_clean_rows_too_and_no_golden_rows_hide_it() -> None:
    """Golden rows that the stable bundle never flags cost the clients' evidence log 2 at most."""
    both = worse(good(pairs=Pairs(0, 10, 990), clean=Pairs(0, 30, 970)), POLICY)["fewer"]
    alone = worse(good(pairs=Pairs(0, 10, 990), clean=NO_PAIRS), POLICY)["fewer"]
    silent = worse(good(pairs=Pairs(0, 10, 990), clean=Pairs(0, 0, 100_000)), POLICY)["fewer"]
    assert both > log(1 / POLICY.alpha) > alone
    assert alone - log(2) <= silent < alone


def test_a_candidate_meant_to_flag_less_may_be_told_so() -> None:
    fewer = good(pairs=Pairs(0, 60, 1940))
    assert worse(fewer, POLICY)["fewer"] > log(1 / POLICY.alpha)
    assert worse(fewer, replace(POLICY, fewer=0.05))["fewer"] < 0
    assert as_good(fewer, replace(POLICY, fewer=0.05))["fewer"] > log(1 / POLICY.beta)


def test_errors_count_against_the_limit_and_against_the_stable_one() -> None:
    both = Report(candidate=Arm(1000, 50), stable=Arm(1000, 50))
    assert not too_much("errors", both, POLICY), "the stable one fails as often"
    assert not too_much("errors", Report(candidate=Arm(99, 99)), POLICY), "too few to say"
    assert too_much("errors", Report(candidate=Arm(100, 10)), POLICY)


@pytest.mark.parametrize("state", ["DRAFT", "VALIDATING", *STAGES, "PAUSED"])
def test_what_people_ask_for(state: str) -> None:
    rollout = in_state(state, paused="STEP_10" if state == "PAUSED" else None)
    assert order(rollout, "rollback", "ann", seen())[0].state == "ROLLED_BACK"
    assert order(rollout, "abort", "ann", seen())[0].reason == "asked by ann"
    if state == "PAUSED":
        assert order(rollout, "resume", "ann", seen())[0].state == "STEP_10"
        assert order(rollout, "promote", "ann", seen())[0].state == "STEP_50"
        with pytest.raises(ConflictError, match="paused already"):
            order(rollout, "pause", "ann", seen())
    else:
        paused = order(rollout, "pause", "ann", seen())[0]
        assert (paused.paused, paused.weight) == (state, rollout.weight)
        with pytest.raises(ConflictError, match="only a paused rollout"):
            order(rollout, "resume", "ann", seen())
    if state in ("DRAFT", "VALIDATING"):
        with pytest.raises(ConflictError, match="only a candidate that runs"):
            order(rollout, "promote", "ann", seen())


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match="takes pause, resume"):
        order(Rollout(), "hurry", "ann", seen())
    for end in ENDS:
        with pytest.raises(ConflictError, match="has ended"):
            order(in_state(end), "pause", "ann", seen())
    with pytest.raises(ConflictError, match="only a candidate that runs"):
        order(in_state("SHADOW"), "promote", "ann", Observations())


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0}, {"min_s": (1, 2, 3)}, {"errors": 1}, {"crashes": -1}, {"slow_s": 0}]
)
def test_a_policy_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Policy(**wrong)  # type: ignore[arg-type]


REPORTS = st.builds(
    Report,
    loaded=st.booleans(),
    refused=st.sampled_from(["", "", "", "no"]),
    stable=st.builds(Arm, st.integers(0, 5000), st.integers(0, 5)),
    candidate=st.builds(Arm, st.integers(0, 5000), st.integers(0, 5)),
    pairs=st.builds(Pairs, st.integers(0, 90), st.integers(0, 90), st.integers(0, 5000)),
    missed=st.builds(Pairs, st.integers(0, 90), st.integers(0, 90), st.integers(0, 5000)),
    wrong=st.builds(Pairs, st.integers(0, 90), st.integers(0, 90), st.integers(0, 5000)),
    paired_clients=st.integers(0, 100),
    split=st.floats(-5, 10),
    probes=st.integers(0, 9999),
)
LOOKS = st.tuples(
    st.lists(REPORTS, max_size=2),
    st.integers(0, 4),
    st.floats(-1e6, 1e9),
    st.sampled_from(["", "", "", "pause", "resume", "promote"]),
)


@given(st.lists(LOOKS, max_size=12))
@settings(max_examples=60, deadline=None)
def test_whatever_comes(looks: list[tuple[list[Report], int, float, str]]) -> None:
    """Exposure grows one step at a time, only after what shows nothing bad; an end is an end; what
    is kept comes back the same."""
    rollout, weights, promoted = Rollout(), [0], 0
    for reports, crashed, now, verb in looks:
        observed = merge(reports, crashed=crashed)
        before = rollout
        rollout, actions = advance(rollout, observed, now, POLICY)
        if verb and not rollout.ended:
            try:
                rollout, more = order(rollout, verb, "ann", observed)
                actions += more
            except ConflictError:
                pass
        assert Rollout.from_dict(rollout.to_dict()) == rollout
        promoted += sum(each.kind == "promote" for each in actions)
        if before.ended:
            assert rollout == before
            assert not actions
        weights.append(rollout.weight)
    assert promoted == (rollout.state == "COMPLETED")
    allowed = {0: {0, 10}, 10: {0, 10, 50, 100}, 50: {0, 50, 100}, 100: {0, 100}}
    assert all(b in allowed[a] for a, b in pairwise(weights))


def test_clients_keep_their_lot_and_only_move_to_the_candidate() -> None:
    lots = salt(b"secret", "a" * 64, "b" * 64)
    names = [f"client {n}" for n in range(5000)]
    sides = {w: [side(lots, name, w) for name in names] for w in (0, 10, 50, 100)}
    for low, high in ((0, 10), (10, 50), (50, 100)):
        pairs = zip(sides[low], sides[high], strict=True)
        assert not any(a == "candidate" and b == "stable" for a, b in pairs)
    share = sides[10].count("candidate") / len(names)
    assert abs(share - 0.1) < 0.02  # 5 standard deviations
    other = [side(salt(b"another", "a" * 64, "b" * 64), name, 10) for name in names]
    assert other != sides[10], "who does not know the secret cannot tell"
    assert salt(b"secret", "a" * 64, "b" * 64) == lots, "started anew, the lots are the same"
