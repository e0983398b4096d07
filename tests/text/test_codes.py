"""Texts as rows of numbers: nothing is lost on the way, and what cannot go is told."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from buckler import data
from buckler.errors import DataError, UsageError
from buckler.inputs import InputSpec
from buckler.text.codes import decode, encode, from_utf8

SPEC = InputSpec.of_texts(("fine", "spam"), 40)
whole = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


@given(st.lists(whole, min_size=1, max_size=5))
def test_every_text_comes_back_as_it_was(texts: list[str]) -> None:
    x = SPEC.read(texts)
    assert x.dtype == torch.float32
    assert decode(SPEC.check(x)) == texts
    assert torch.equal(SPEC.snap(x), x)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a text must hold at least one character. Got an empty one"),
        ("x" * 1_000_000, "a text may have at most 40 characters. Got 1000000: send it in parts"),
        ("a\ud800b", "a text must be Unicode without lone surrogates. Got U+D800 at character 2"),
    ],
)
def test_what_cannot_be_judged_is_told_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(DataError) as one:
        SPEC.read([text])
    assert str(one.value) == sentence
    with pytest.raises(DataError) as second:
        SPEC.read(["fine", text])
    assert str(second.value) == f"text 2 of 2: {sentence}"


def test_bytes_that_are_not_utf8_are_told_where() -> None:
    with pytest.raises(DataError, match=r"must be UTF-8. Got the byte 0xFF at 3 of 4 bytes"):
        from_utf8(b"ab\xffc")
    assert from_utf8("naïve".encode()) == "naïve"


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ([-1.0, -1, -1], "at least one character"),
        ([97.0, -1, 97], "then -1 to the end"),
        ([97.5, 98, 99], "whole numbers"),
        ([97.0, 0xD800, 99], "lone surrogates"),
    ],
)
def test_rows_of_numbers_that_are_no_text_are_refused(row: list[float], what: str) -> None:
    spec = InputSpec.of_texts(("fine", "spam"), 3)
    with pytest.raises(DataError, match=what):
        spec.check(torch.tensor([row]))


def test_a_spec_of_texts_travels_and_others_keep_their_digest() -> None:
    assert InputSpec.from_dict(SPEC.to_dict()) == SPEC
    assert "text" not in InputSpec((3,), ("a", "b")).to_dict()
    assert decode(SPEC.blank(2)) == ["-", "-"]
    with pytest.raises(UsageError, match="of_texts makes one"):
        InputSpec((3,), ("a", "b"), text=True)


def test_texts_become_a_data_set() -> None:
    texts = [f"text number {i}" for i in range(200)]
    found = data.of_texts("made", texts, [i % 2 for i in range(200)], ("a", "b"), length=40)
    assert sum(len(found[split]) for split in data.SPLITS) == 200
    assert set(decode(found["test"].x)) <= set(texts)
    assert len(encode([], 4)) == 0
