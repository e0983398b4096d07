"""Runs of near-equal inputs are seen, whatever is tried within the ball; others are not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.errors import UsageError
from buckler.ops.fingerprint import FINE, Looks
from buckler.ops.ring import Near, Ring
from buckler.ops.streams import Rule, Streams, densest

SHAPE = (1, 28, 28)
RNG = np.random.default_rng


def looks(salt: bytes = b"salt", shape: tuple[int, ...] = SHAPE) -> Looks:
    return Looks(shape, salt)


def scene(rng: np.random.Generator, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """An image of blocks that is like no other."""
    c, h, w = shape
    blocks = rng.random((c, -(-h // 4), -(-w // 4)))
    return blocks.repeat(4, 1).repeat(4, 2)[:, :h, :w].astype(np.float32)


def kinds(streams: Streams, client: str, x: np.ndarray) -> list[str]:
    return [alarm.kind for alarm in streams.saw(client, x)]


@given(seed=st.integers(0, 2**32), shape=st.sampled_from([(1, 28, 28), (3, 32, 32), (3, 9, 21)]))
@settings(max_examples=60, deadline=None)
def test_two_images_within_a_tenth_of_a_third_are_near_whatever_they_are(
    seed: int, shape: tuple[int, ...]
) -> None:
    """The guarantee: corners of the ball, on the 8-bit grid, in patterns of any size."""
    rng = RNG(seed)
    middle = rng.integers(0, 256, shape)
    block = int(rng.integers(1, 9))
    c, h, w = shape

    def corner() -> np.ndarray:
        signs = rng.choice([-25, 25], (c, -(-h // block), -(-w // block)))
        signs = signs.repeat(block, 1).repeat(block, 2)[:, :h, :w]
        return (np.clip(middle + signs, 0, 255) / 255).astype(np.float32)

    one, other = (looks(shape=shape).cells(corner()[None]) for _ in range(2))
    assert Near().of(one, other[0]).all()


@pytest.mark.parametrize("others", [0, 9])
def test_a_search_of_the_ball_is_seen_at_the_input_that_the_rule_says(others: int) -> None:
    rng, rule = RNG(0), Rule()
    streams, middle = Streams(rule, looks()), scene(RNG(1))
    for number in range(1, rule.own + 1):
        for _ in range(others):
            assert kinds(streams, "a", scene(rng)) == []
        step = rng.choice([-25, 25], SHAPE) / 255
        found = kinds(streams, "a", np.clip(middle + step, 0, 1).astype(np.float32))
        assert ("near" in found) == (number == rule.own)


def test_many_keys_share_a_run_and_each_with_a_part_is_named() -> None:
    rng, rule = RNG(0), Rule()
    streams, middle = Streams(rule, looks()), scene(RNG(1))
    alarms = []
    for number in range(rule.everyone):
        step = rng.uniform(-0.1, 0.1, SHAPE)
        client = f"key{number % 4}" if number else "passer-by"
        alarms += streams.saw(client, np.clip(middle + step, 0, 1).astype(np.float32))
    (alarm,) = alarms
    assert (alarm.kind, alarm.near) == ("shared", rule.everyone)
    assert set(alarm.clients) == {f"key{n}" for n in range(4)}, "who sent one is not"


def test_what_is_sent_again_counts_once() -> None:
    streams, x = Streams(Rule(), looks()), scene(RNG(1))
    assert [alarm for _ in range(100) for alarm in streams.saw("a", x)] == []


def test_different_images_are_no_run() -> None:
    rng, streams = RNG(0), Streams(Rule(), looks())
    assert [alarm for _ in range(300) for alarm in streams.saw("a", scene(rng))] == []


def test_a_patch_of_any_strength_is_seen_by_the_fine_hashes_alone() -> None:
    rng, rule = RNG(0), Rule(near=Near(1, 1, 0))
    streams, middle, seen = Streams(rule, looks()), scene(RNG(1)), []
    for _ in range(rule.own + 2):
        x = middle.copy()
        x[:, 4:10, 4:10] = rng.random((6, 6))
        seen.append("near" in kinds(streams, "a", x))
    assert any(seen)


def test_changes_of_one_image_that_are_dropped_again_are_a_chain() -> None:
    """As Square tries windows of full strength: like the image, and unlike each other."""
    rng, rule = RNG(0), Rule(near=Near(1, 1, 0))
    streams, middle, seen = Streams(rule, looks()), scene(RNG(1)), []
    for _ in range(rule.chain + 6):
        x, (top, left) = middle.copy(), rng.integers(0, 12, 2)
        x[:, top : top + 4, left : left + 4] = rng.integers(0, 2)
        seen.append("near" in kinds(streams, "a", x))
    assert any(seen)
    assert not any(seen[: rule.chain - 1])


def test_pale_images_may_be_near_twice_as_often() -> None:
    """Skies: each near the last, with a gradient of its own."""
    rng, rule = RNG(0), Rule()
    streams, numbers = Streams(rule, looks()), []
    down = np.linspace(-0.1, 0.1, SHAPE[1])[None, :, None]
    for number in range(1, 2 * rule.own + 1):
        step = rng.choice([-10, 10], SHAPE) / 255
        sky = np.broadcast_to(0.6 + down, SHAPE) + step
        if "near" in kinds(streams, "a", sky.astype(np.float32)):
            numbers.append(number)
    assert numbers == [2 * rule.own]


def test_noise_far_beyond_near_is_seen_by_its_angles() -> None:
    rng, rule = RNG(0), Rule()
    streams, middle = Streams(rule, looks()), np.full(SHAPE, 0.5, np.float32)
    found = [
        kind
        for _ in range(60)
        for kind in kinds(
            streams, "a", np.clip(middle + 0.2 * rng.normal(size=SHAPE), 0, 1).astype(np.float32)
        )
    ]
    assert set(found) == {"angles"}


def test_halving_between_two_images_is_seen() -> None:
    streams = Streams(Rule(), looks())
    one, other = (scene(RNG(seed)).round() for seed in (1, 2))
    low, high, found = 0.0, 1.0, kinds(streams, "a", other)
    for _ in range(9):
        middle = (low + high) / 2
        found += kinds(streams, "a", one + middle * (other - one))
        low, high = (middle, high) if middle < 0.3 else (low, middle)
    assert "angles" in found


def test_the_hashes_of_black_borders_do_not_make_all_alike() -> None:
    blank = looks().print(np.zeros(SHAPE, np.float32))
    assert len(blank.fine) == 0
    framed = np.zeros(SHAPE, np.float32)
    framed[:, 8:20, 8:20] = scene(RNG(1))[:, :12, :12]
    other = np.zeros(SHAPE, np.float32)
    other[:, 8:20, 8:20] = scene(RNG(2))[:, :12, :12]
    one, two = looks().print(framed), looks().print(other)
    assert len(one.fine) == FINE
    assert len(np.intersect1d(one.fine, two.fine)) <= 2


def test_without_the_salt_the_hashes_cannot_be_foreseen() -> None:
    x = scene(RNG(1))
    assert not np.intersect1d(looks(b"a").print(x).fine, looks(b"b").print(x).fine).size
    assert (looks(b"a").print(x).fine == looks(b"a").print(x).fine).all()


@given(steps=st.lists(st.integers(0, 30), max_size=80))
@settings(max_examples=40, deadline=None)
def test_a_ring_holds_the_last_ones_and_no_more(steps: list[int]) -> None:
    """Against a list of what was added."""
    prints = [looks().print(scene(RNG(seed))) for seed in range(31)]
    ring, held = Ring(20, len(prints[0].cells)), []
    for step in steps:
        found = ring.find(prints[step], Near())
        last = held[-20:]
        assert found.again == (step in last)
        assert len(found.near) == sum(other == step for other in last)
        ring.add(prints[step], step, found)
        held.append(step)
        assert len(ring) == min(len(held), 20)


def test_memory_is_bounded_by_the_rule_and_a_silent_client_is_forgotten() -> None:
    rng, rule = RNG(0), Rule(memory=32, memory_of_all=64, clients=3)
    streams, sizes = Streams(rule, looks()), []
    for number in range(150):
        streams.saw(str(number % 10), scene(rng))
        sizes.append(streams.nbytes)
    assert max(sizes[75:]) == max(sizes)
    full = Streams(Rule(), looks())
    for _ in range(500):
        full.saw("a", scene(rng))
    assert full.nbytes / full.held < 1000


def test_the_densest_part() -> None:
    assert densest(np.array([]), 0.1) == 0
    assert densest(np.array([0.3, 0.0, 0.35, 0.31, 0.9]), 0.08) == 3


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match=r"images \(c, h, w\) only.*Got inputs of shape \(30,\)"):
        Looks((30,), b"salt")
    with pytest.raises(UsageError, match=r"trimmed <= radius.*Got trimmed=60, radius=51"):
        Near(trimmed=60)
    with pytest.raises(UsageError, match=r"own <= everyone.*Got own=40, everyone=32"):
        Rule(own=40)
    with pytest.raises(UsageError, match=r"clients >= 1.*clients=0"):
        Rule(clients=0)
    with pytest.raises(UsageError, match=r"chain >= 2.*chain=1"):
        Rule(chain=1)
