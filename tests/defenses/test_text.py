"""The normaliser: what it takes off, what it leaves, and where each word stood."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.attacks.wording import variants
from buckler.defenses.text import Lexicon, Normaliser
from buckler.errors import UsageError
from buckler.text.fold import fold
from buckler.threats import TextEdits
from buckler.threats.text.edits import DISGUISES

SENTENCE = (
    "you are a free money now class pass idiot fucking king was the of and hi there moron ch id on"
)
WORDS = (*SENTENCE.split(), "it", "do", "not", "will", "win", "botch", "its")
WATCHED = ("idiot", "moron", "free")
PLAIN, READER = Normaliser(), Normaliser(Lexicon(WORDS, WATCHED))


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("you are an id!ot", "you are an idiot"),
        ("i d i o t", "idiot"),
        ("you i.d.i.o.t!", "you idiot!"),
        ("id iot", "idiot"),
        ("fr ee m0ney", "free money"),
        ("fu cking \u202enorom\u202c", "fucking moron"),
        ("m\u043er\u043en", "moron"),
        ("mornon, idoit", "moron, idiot"),
        ("idiioot", "idiot"),
        ("the class passes now", "the class passes now"),
        ("do not, it's his", "do not, it's his"),
        ("100 % of 2015", "100 % of 2015"),
        ("", ""),
    ],
)
def test_it_reads_what_was_meant(written: str, read: str) -> None:
    assert READER(written) == read


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(WATCHED), st.sampled_from(DISGUISES), st.integers(0, 50))
def test_a_watched_word_is_read_through_every_disguise(word: str, kind: str, seed: int) -> None:
    for each in variants(word, TextEdits(1, (kind,)), 12, seed):
        assert READER(f"hi {each} there") == f"hi {word} there", each


def test_without_a_lexicon_only_characters_are_folded() -> None:
    assert PLAIN("fr\u0435e m0ney") == "free m0ney"


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=40), st.booleans())
def test_the_account_is_true(text: str, with_words: bool) -> None:
    reader = READER if with_words else PLAIN
    found = reader.explain(text)
    assert found.text == reader(text)
    for span in found.spans:
        assert 0 <= span.first < span.last <= len(text)
        assert 0 <= span.start <= span.stop <= len(found.text)
    if not with_words and text.isascii() and text.isprintable():
        assert found.spans == ()
        assert found.text == fold(text)


def test_reviewers_see_the_words_that_were_changed() -> None:
    text = "hi you id\u200biot, w\u0456n fr ee"
    found = READER.explain(text)
    pairs = [(text[s.first : s.last], found.text[s.start : s.stop]) for s in found.spans]
    assert pairs == [("id\u200biot,", "idiot,"), ("w\u0456n", "win"), ("fr ee", "free")]


def test_a_watched_word_must_be_known() -> None:
    with pytest.raises(UsageError, match=r"words of the lexicon\. Got 'z'"):
        Lexicon(("a",), ("z",))
