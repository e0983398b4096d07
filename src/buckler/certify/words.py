"""Votes of masked texts: an answer that replaced words cannot change."""

from collections.abc import Callable, Sequence
from math import comb
from typing import Final

import torch
from torch import Tensor

from buckler import draws
from buckler.errors import UsageError
from buckler.protocols import Progress
from buckler.stats import clopper_pearson_lower
from buckler.verdict import WordCertificate

Texts = Callable[[list[str]], Tensor]
"""Texts → logits (n, k)."""
_BATCH: Final = 2000


def certify_words(
    model: Texts,
    texts: Sequence[str],
    *,
    words: int = 2,
    keep: float = 0.2,
    n: int = 1000,
    n0: int = 100,
    alpha: float = 0.001,
    mask: str = "",
    seed: int = 0,
    progress: Progress | None = None,
) -> list[WordCertificate]:
    """Certificates of the classifier "most frequent answer over texts with random words masked".

    With probability at least 1 − alpha over the draws, that classifier answers `label` for every
    text that has other words in at most `words` of its places, and as many words. It says nothing
    of words added or left out, nor of paraphrase. (Zeng et al. 2021, RanMASK, arXiv:2105.03743,
    with the plain bound, in which a masked text that holds a replaced word is lost: their tighter
    one rests on an estimate. n0 draws guess the label, n fresh ones bound its share.)

    Args:
        model: a classifier trained on masked texts: any other sees too little of them.
        texts: a word is what stands between blanks.
        words: that an attacker may replace.
        keep: share of the words that each vote sees, rounded down, 1 word at least.
        mask: what stands in a masked word's place; "": it is left out.

    Raises: UsageError for shares and counts with which nothing could be certified.
    """
    if words < 1 or not 0 < keep < 1 or n0 < 1 or not 0 < alpha < 1:
        raise UsageError(
            "certify_words needs words >= 1, 0 < keep < 1, n0 >= 1, 0 < alpha < 1. "
            f"Got {words}, {keep}, {n0}, {alpha}"
        )
    if clopper_pearson_lower(n, n, alpha) <= 0.5:
        raise UsageError(
            f"with n={n} draws and alpha={alpha:g} no answer can be certain: every text would "
            "abstain. Take more draws, or a larger alpha"
        )
    found = []
    for index, text in enumerate(texts):
        split = text.split()
        kept = seen_words(len(split), keep)
        lost = touched(len(split), kept, words)
        label: int | None = None
        share = 0.0
        if lost < 0.5:  # else no vote could certify
            votes = _votes(model, split, kept, n0 + n, mask, draws.derive(seed, index))
            guess = int(torch.bincount(votes[:n0]).argmax())
            share = clopper_pearson_lower(int((votes[n0:] == guess).sum()), n, alpha)
            label = guess if share - lost > 0.5 else None
        found.append(WordCertificate(label, words, len(split), kept, share, alpha, n))
        if progress is not None:
            progress(index + 1, len(texts))
    return found


def seen_words(count: int, keep: float) -> int:
    """How many of a text's words each vote sees."""
    return max(1, int(keep * count))


def touched(count: int, kept: int, words: int) -> float:
    """The share of all choices of `kept` of `count` words that hold one of `words` given ones."""
    return 1.0 if words >= count else 1 - comb(count - words, kept) / comb(count, kept)


def masked(text: str, keep: float, seed: int, mask: str = "") -> str:
    """The text with all words masked but a random choice, for training."""
    split = text.split()
    if not split:
        return text
    places = _choices(len(split), seen_words(len(split), keep), 1, seed)[0]
    return _shown(split, set(places.tolist()), mask)


def _votes(model: Texts, split: list[str], kept: int, count: int, mask: str, seed: int) -> Tensor:
    """(count,) the answers over random masks; equal masked texts are asked about once."""
    choices = _choices(len(split), kept, count, seed)
    shown = [_shown(split, set(row), mask) for row in choices.tolist()]
    once = list(dict.fromkeys(shown))
    answers: dict[str, int] = {}
    for start in range(0, len(once), _BATCH):
        part = once[start : start + _BATCH]
        logits = model(part)
        if not bool(torch.isfinite(logits).all()):
            raise UsageError(
                "the model returned logits that are NaN or infinite: they certify nothing. "
                "Mend the model first"
            )
        answers |= dict(zip(part, logits.argmax(1).tolist(), strict=True))
    return torch.tensor([answers[each] for each in shown])


def _choices(count: int, kept: int, many: int, seed: int) -> Tensor:
    """(many, kept) places, each choice of `kept` of `count` as likely as any other."""
    u = draws.uniform(seed, torch.arange(many), 0, (count,))
    return u.argsort(dim=1, stable=True)[:, :kept]


def _shown(split: list[str], places: set[int], mask: str) -> str:
    kept = (word if at in places else mask for at, word in enumerate(split))
    return " ".join(word for word in kept if word)
