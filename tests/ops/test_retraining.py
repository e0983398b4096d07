"""The door: who enters, who is turned away and why; nothing a client sends buys it more room."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.ops.retraining import Door, Row, Said, admit, golden_loss

CLASSES = {"cat": 1000, "dog": 1000}
DOOR = Door()


def row(number, client="c", *, label="cat", said=("ann", "bob"), outcome="label", **more):
    return Row(
        id=more.pop("id", f"r{number}"),
        client=client,
        outcome=outcome,
        label=label,
        said=tuple(Said(name, label) for name in said),
        fingerprint=more.pop("fingerprint", ""),
        **more,
    )


def crowd(clients=40, each=2, **more):
    """Honest rows: many clients with few rows each."""
    return [row(f"{c}-{n}", f"client {c}", **more) for c in range(clients) for n in range(each)]


def why(one, door=DOOR, classes=CLASSES):
    return admit([*crowd(), one], classes, door).turned_away.get(one.id)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"outcome": "adversarial", "label": "dog"}, None),
        ({"outcome": "accept"}, None),
        ({"outcome": "corrupted"}, "corrupted"),
        ({"outcome": "unsure"}, "unsure"),
        ({"outcome": "adversarial", "label": None}, "no true class"),
        ({"label": "bird"}, "unknown class"),
        ({"said": ("ann",)}, "too few agree"),
        ({"said": ("ann", "ann")}, "too few agree"),
        ({"said": ("ann", "bob", "cyd", "dan")}, "too few agree"),
        ({"barred": "held-out row"}, "held-out row"),
        ({"barred": "in the data already"}, "in the data already"),
        ({"barred": "no input"}, "no input"),
    ],
)
def test_what_a_row_needs(changes, reason):
    assert why(row("x", "new", **changes)) == reason


def test_agreement_is_about_the_class():
    split = (Said("ann", "cat"), Said("bob", "dog"))
    assert why(replace(row("x", "new"), said=split)) == "too few agree"
    assert why(replace(row("x", "new"), said=(*split, Said("cyd", "cat")))) is None
    # One names no class: "unsure", or "corrupted".
    assert why(replace(row("x", "new"), said=(*split[:1], Said("bob", None)))) == "too few agree"
    alone = Door(agree=1, of=1, client_share=1)
    assert admit([row("x", said=("ann",))], CLASSES, alone).entered == ("rx",)


def test_near_duplicates_of_one_client_are_one_row():
    near = [row(n, "new", fingerprint=f"{(1 << n) - 1:016x}") for n in range(4)]
    found = admit([*crowd(90, 1), *near], CLASSES, DOOR)
    assert Counter(found.turned_away.values()) == {"near-duplicate": 3}
    apart = [replace(each, client=f"new {each.id}") for each in near]
    assert not admit([*crowd(90, 1), *apart], CLASSES, DOOR).turned_away


def test_one_client_alone_gets_nothing_in():
    poison = [row(n, "mallory", label="dog") for n in range(200)]
    found = admit(poison, CLASSES, DOOR)
    assert found.entered == ()
    assert found.reasons() == {"the client's share": 200}


@pytest.mark.parametrize("sent", [10, 200, 5000])
def test_sending_more_buys_no_more_room(sent):
    """80 honest rows of 40 clients: mallory's 4 of 84 are within 5 %, and a fifth is not."""
    poison = [row(n, "mallory", label="dog", id=f"m{n}") for n in range(sent)]
    found = admit([*crowd(), *poison], CLASSES, DOOR)
    assert sum(name.startswith("m") for name in found.entered) == 4
    assert len(found.entered) == 84


def test_a_class_moves_by_a_tenth_of_itself_at_most():
    few, many = {"cat": 300, "dog": 1000}, crowd(40, 2)
    found = admit(many, few, replace(DOOR, client_share=0.1))
    assert len(found.entered) == 30
    assert found.reasons() == {"the class's share": 50}
    twice = replace(DOOR, client_share=0.1, copies=2)
    assert len(admit(many, few, twice).entered) == 15
    # Of the ten rows a class of 100 has room for, one client's is a tenth: too much at 5 %.
    assert not admit(many, {"cat": 100, "dog": 1000}, DOOR).entered


def test_the_order_of_arrival_means_nothing():
    rows = crowd(60, 3)
    few = {"cat": 400, "dog": 400}
    found = admit(rows, few, DOOR)
    assert found == admit(rows[::-1], few, DOOR)
    assert 0 < len(found.entered) < len(rows)
    assert found.entered != admit(rows, few, replace(DOOR, seed=1)).entered


rows_at_the_door = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["cat", "dog", "bird"]), st.integers(0, 3)),
    max_size=150,
)


@settings(max_examples=60, deadline=None)
@given(rows_at_the_door, st.floats(0.03, 1), st.floats(0.05, 1), st.integers(1, 3))
def test_whatever_asks_the_shares_hold_and_every_row_has_its_answer(
    asking, client_share, class_share, copies
):
    classes = {"cat": 40, "dog": 150}
    names = ["ann", "bob", "cyd"]
    rows = [row(n, f"c{c}", label=y, said=names[:k]) for n, (c, y, k) in enumerate(asking)]
    door = Door(client_share=client_share, class_share=class_share, copies=copies)
    found = admit(rows, classes, door)
    assert {*found.entered} | {*found.turned_away} == {each.id for each in rows}
    assert not {*found.entered} & {*found.turned_away}
    of = {each.id: each for each in rows}
    entered = [of[name] for name in found.entered]
    for count in Counter(each.client for each in entered).values():
        assert count <= client_share * len(entered) + 1e-6
    for label, count in Counter(each.label for each in entered).items():
        assert count * copies <= class_share * classes[label] + 1e-6
    assert all(len({s.reviewer for s in each.said}) >= 2 for each in entered)


@pytest.mark.parametrize(
    ("n", "lost", "won", "refused"),
    [(1000, 5, 0, False), (1000, 6, 0, True), (1000, 40, 35, False), (100, 1, 0, True)],
)
def test_half_a_point_of_the_golden_set(n, lost, won, refused):
    before = [True] * lost + [False] * won + [True] * (n - lost - won)
    after = [False] * lost + [True] * won + [True] * (n - lost - won)
    found = golden_loss(before, after)
    assert (found.n, found.lost, found.won, found.refused) == (n, lost, won, refused)
    assert found.share == pytest.approx((lost - won) / n)


def test_bad_luck_is_told_from_harm():
    assert golden_loss([True, False] * 40, [False, True] * 40).p == pytest.approx(0.5, abs=0.05)
    assert golden_loss([True] * 20, [False] * 20).p == pytest.approx(2**-20)
    with pytest.raises(UsageError, match="the same rows"):
        golden_loss([True], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"agree": 0}, "agree must be 1 or more"),
        ({"agree": 3, "of": 2}, "at most of. Got 3 of 2"),
        ({"client_share": 0}, "client_share and class_share must lie in"),
        ({"class_share": 1.1}, "Got 0.05 and 1.1"),
        ({"copies": 0}, "copies must be 1 or more"),
        ({"near_bits": 64}, "near_bits 0 to 63"),
    ],
)
def test_a_door_that_cannot_be(changes, words):
    with pytest.raises(UsageError, match=words):
        Door(**changes)
