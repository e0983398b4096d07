"""Votes of masked texts against every choice of masks and every pair of replaced words."""

import itertools

import pytest
import torch
from torch import Tensor

from buckler.certify import certify_words
from buckler.certify.words import masked, seen_words, touched
from buckler.errors import UsageError
from buckler.verdict import in_full


def spam(texts: list[str]) -> Tensor:
    """1 where at least half of the words are "win"."""
    share = [sum(w == "win" for w in text.split()) / max(1, len(text.split())) for text in texts]
    return torch.tensor([[0.5, value] for value in share]) + 1e-6 * torch.tensor([0.0, 1.0])


def exact_share(words: list[str], kept: int) -> float:
    """Of all choices of `kept` words, those whose answer is 1."""
    every = list(itertools.combinations(words, kept))
    return float(spam([" ".join(each) for each in every]).argmax(1).float().mean())


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_share_of_masks_that_see_a_replaced_word_is_exact(kept: int) -> None:
    every = list(itertools.combinations(range(7), kept))
    hit = sum(bool({0, 4} & set(each)) for each in every) / len(every)
    assert touched(7, kept, 2) == pytest.approx(hit)
    assert touched(2, 1, 2) == 1.0


@pytest.mark.parametrize(
    "text", ["win " * 10, "win " * 9 + "now", "win " * 8 + "a b", "a b c d e f"]
)
def test_what_is_certified_holds_for_every_pair_of_words(text: str) -> None:
    """The vote is computed exactly, over all masks, for every replacement of any two words."""
    words = text.split()
    (found,) = certify_words(spam, [text], words=2, keep=0.2, n=600)
    kept = seen_words(len(words), 0.2)
    share = exact_share(words, kept)
    assert found.share <= max(share, 1 - share)
    if found.label is None:
        return
    for pair in itertools.combinations(range(len(words)), 2):
        for new in ("win", "x"):
            changed = [new if at in pair else word for at, word in enumerate(words)]
            assert int(exact_share(changed, kept) > 0.5) == found.label


def test_long_clear_texts_are_certified_and_short_ones_cannot_be() -> None:
    long, short, none = certify_words(spam, ["win " * 12, "win win", "   "], n=600)
    assert (long.label, long.kept, long.length) == (1, 2, 12)
    assert short.abstained
    assert none.abstained


def test_the_bound_fails_no_oftener_than_it_says() -> None:
    """40 runs at alpha 0.05 on a text with a known share: the bound may exceed it in 2 or so;
    more than 7 has a probability under 0.1 %."""
    words = ("win " * 7 + "a b c").split()
    share = exact_share(words, 2)
    over = 0
    for seed in range(40):
        (found,) = certify_words(spam, [" ".join(words)], n=200, alpha=0.05, seed=seed)
        over += found.share > max(share, 1 - share)
    assert over <= 7


def test_masks_are_drawn_alike_by_seed() -> None:
    text = "one two three four five six seven eight nine ten"
    assert masked(text, 0.3, 5) == masked(text, 0.3, 5)
    kept = masked(text, 0.3, 5).split()
    assert len(kept) == 3
    assert kept == [word for word in text.split() if word in kept]
    assert masked(text, 0.3, 5, "_").split().count("_") == 7
    assert masked("", 0.3, 1) == ""


def test_the_sentence_says_words_and_no_paraphrase() -> None:
    (found,) = certify_words(spam, ["win " * 12], n=600)
    sentence = in_full(found)
    assert "whatever any 2 words are replaced by" in sentence
    assert "none added, none left out" in sentence
    assert "paraphrase" not in str(found)
    assert found.to_dict()["label"] == 1
    (short,) = certify_words(spam, ["win"], n=600)
    assert str(short).startswith("not proved against 2 replaced words")


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({"words": 0}, "words >= 1"),
        ({"keep": 1.0}, "0 < keep < 1"),
        ({"n": 5}, "no answer can be certain"),
    ],
)
def test_what_could_certify_nothing_is_refused(given_: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        certify_words(spam, ["win"], **given_)
    with pytest.raises(UsageError, match="NaN or infinite"):
        certify_words(lambda t: torch.full((len(t), 2), torch.nan), ["win " * 9], n=100)
