"""The second opinion against brute force: the cheapest way is found, nothing else is allowed."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.attacks.wording import variants
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.text.signs import KEYS
from buckler.threats import TextEdits
from buckler.threats.text import Spent
from buckler.threats.text.align import NEVER, word_edits
from buckler.threats.text.edits import KINDS

SPEC = InputSpec.of_texts(("fine", "spam"), 80)
SEEDS = st.integers(0, 99)
SWAPS = {"free": ("gratis", "costless")}


def once(word: str) -> set[str]:
    """All words one typo away, written down anew."""
    found = set()
    for at in range(len(word)):
        found.add(word[:at] + word[at + 1 :])
        found |= {word[:at] + near + word[at + 1 :] for near in KEYS[word[at]]}
        found |= {word[: at + 1] + near + word[at + 1 :] for near in KEYS[word[at]]}
        if at + 1 < len(word):
            found.add(word[:at] + word[at + 1] + word[at] + word[at + 2 :])
    return found - {word}


@pytest.mark.parametrize("word", ["ab", "free", "sos"])
def test_typos_are_counted_as_brute_force_counts_them(word: str) -> None:
    one = once(word)
    two = {each for first in one for each in once(first)} - one - {word} if len(word) < 4 else set()
    for each in one:
        assert word_edits(word, each, ("typo",), {}) == 1, each
    for each in itertools.islice(sorted(two), 300):
        # A second edit of a letter that was put in is no edit of the word: dearer, or not allowed.
        assert word_edits(word, each, ("typo",), {}) >= 2, each


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(KINDS), st.text("abcdefgilmnorst", min_size=1, max_size=7), SEEDS)
def test_every_spelling_of_an_attack_is_allowed_by_its_kind_alone(
    kind: str, word: str, seed: int
) -> None:
    swaps = {word: ("other",)} if kind == "substitution" else {}
    threat = TextEdits(1, (kind,), substitutes=swaps)
    for each in variants(word, threat, 25, seed):
        assert threat.allows(f"so {word}, he said", f"so {each}, he said"), each
        if kind != "substitution":
            assert not threat.allows(f"so {word} {word}x", f"zo {each} {word}x"), each


@pytest.mark.parametrize(
    ("changed", "cost"),
    [
        ("win free money now", Spent(0, 0)),
        ("w1n free money now", Spent(1, 1)),
        ("w1n fr33 money now", Spent(2, 3)),
        ("win f r e e money now", Spent(1, 3)),
        ("win free m0n3y now", Spent(1, 2)),
        ("win gratis money now", Spent(1, 1)),
        ("win free money", NEVER),
        ("win free money now!", NEVER),
        ("win  free money now", NEVER),
        ("won free money now", NEVER),
        ("free win money now", NEVER),
    ],
)
def test_what_a_text_costs(changed: str, cost: Spent) -> None:
    kinds = ("leet", "spacing", "substitution")
    threat = TextEdits(2, kinds, substitutes=SWAPS)
    assert threat.spent("win free money now", changed) == cost
    x, x_adv = SPEC.read(["win free money now"]), SPEC.read([changed])
    assert bool(threat.contains(x, x_adv)) == (cost.words <= 2)
    assert float(threat.distance(x, x_adv)) == cost.words


def test_limits_of_edits_count_all_words_and_each() -> None:
    text, changed = "win free money", "w1n fr33 money"
    assert TextEdits(2, ("leet",), edits=3).allows(text, changed)
    assert not TextEdits(2, ("leet",), edits=2).allows(text, changed)
    assert not TextEdits(2, ("leet",), per_word=1).allows(text, changed)
    assert not TextEdits(1, ("leet",)).allows(text, changed)
    x, x_adv = SPEC.read([text]), SPEC.read([changed])
    one = TextEdits(1, ("leet",))
    assert torch.equal(one.project(x, x_adv), x)
    assert torch.equal(one.unbounded(x).project(x, x_adv), x_adv)


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({"words": 0}, "whole numbers >= 1"),
        ({"words": 1.5}, "whole numbers >= 1"),
        ({"words": 1, "kinds": ("magic",)}, "kinds must be some of homoglyph"),
        ({"words": 1, "kinds": ()}, "kinds must be some of"),
        ({"words": 1, "kinds": ("substitution",)}, "goes with a list of substitutes"),
        ({"words": 1, "substitutes": SWAPS}, "goes with a list of substitutes"),
    ],
)
def test_a_threat_that_makes_no_sense_is_refused(given_: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        TextEdits(**given_)
    with pytest.raises(UsageError, match="texts have no gradient"):
        TextEdits(math.inf).steepest(torch.zeros(1, 3))


def test_a_threat_can_be_written_down() -> None:
    found = TextEdits(math.inf, ("typo",), per_word=1).to_dict()
    assert (found["words"], found["per_word"], found["kinds"]) == (None, 1, ["typo"])
    assert str(TextEdits(2, ("typo",), per_word=1)) == "2 words, 1 a word by typo"
