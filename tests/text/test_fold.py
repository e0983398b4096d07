"""What is read under a disguise is what stood there before it."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.attacks.wording import variants
from buckler.text.confusables import alike, skeleton
from buckler.text.fold import fold, fold_with_origin, joined, key, letters
from buckler.threats import TextEdits
from buckler.threats.text.edits import DISGUISES

word = st.text("abcdefghijklmnopqrstuvwxyzABIKLMSW", min_size=1, max_size=9)
anything = st.text(st.characters(codec="utf-8"), max_size=30)
WORDS = ["funny", "Million", "assess", "Corn", "WILL", "mmm", "Mn", "x"]


def test_the_table_is_unicodes() -> None:
    assert len(alike()) == 9625
    assert {"а", "ɑ"} <= alike()["a"]  # Cyrillic, Latin alpha
    assert "rn" in alike()["m"]
    assert skeleton("а") == "a"
    assert skeleton("І") == "I"
    assert skeleton("o") == "o"
    assert skeleton("漢") == "漢"


def test_every_look_alike_of_a_letter_has_its_key() -> None:
    """Over the whole table, beyond marks that nobody reads as a letter inside a word."""
    left = {
        (letter, other)
        for letter in "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
        for other in alike().get(letter, ())
        if key(f"x{other}q") != key(f"x{letter}q")
    }
    assert left == set()


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("kind", DISGUISES)
def test_no_disguise_changes_a_words_key(text: str, kind: str) -> None:
    threat = TextEdits(1, (kind,))
    spellings = variants(text, threat, 400, 0)
    assert spellings or (kind, text) == ("leet", "x") or len(text) == 1 or kind == "leet"
    assert {letters(each) for each in spellings} <= {letters(text)}


@settings(deadline=None, max_examples=40)
@given(word, st.integers(0, 2**30))
def test_no_mixed_disguise_does_either(text: str, seed: int) -> None:
    for each in variants(text, TextEdits(1), 30, seed):
        assert letters(f"so {each} it is") == letters(f"so {text} it is"), each


@settings(deadline=None)
@given(word, word)
def test_the_key_of_a_word_is_that_of_its_halves(one: str, other: str) -> None:
    assert joined(key(one), key(other)) == key(one + other)


@settings(deadline=None)
@given(anything)
def test_folding_keeps_account_of_every_character(text: str) -> None:
    found = fold_with_origin(text)
    assert found.text == fold(text)
    assert len(found.origin) == len(found.text)
    assert all(0 <= at < len(text) for at in found.origin)
    assert fold(fold(text)) == fold(text)
    assert not any(unicodedata.category(c) == "Cf" for c in found.text)


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert fold(text) == text


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ｆｒｅｅ", "free"),
        ("ﬁne", "fine"),
        ("p\u0336a\u0336y\u0336", "pay"),
        ("\u202eyenom\u202c now", "money now"),
        ("a\u202ebc", "acb"),
        ("ⓦⓘⓝ", "win"),
        ("🅵🆁🅴🅴", "free"),
        ("søft", "soft"),
        ("\u200b\u2060", ""),
        ("한국어 русский 漢字", fold("한국어 русский 漢字")),
    ],
)
def test_what_is_read(written: str, read: str) -> None:
    assert fold(written) == read


def test_other_scripts_are_not_lost() -> None:
    assert fold("한국어 漢字 हिन्दी") == "한국어 漢字 हिन्दी"
