"""The fewest edits that make one text of another: the second opinion on every attack.

It shares no code with the attacks: it is given two texts, and finds what was done, or that it may
not be done at all.
"""

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from buckler.text.confusables import alike
from buckler.text.signs import INVISIBLE, KEYS, LEET, MARKS, OVERRIDE, POP, SEPARATORS

WORD: Final = re.compile(r"[^\W_]+")
_TOKENS = re.compile(r"[^\W_]+|[\W_]+")
_TIMES, _MORE = 6, 12  # how long a word may have become: longer ones are not looked at
Substitutes = Mapping[str, Collection[str]]


@dataclass(frozen=True, order=True)
class Spent:
    """What a changed text costs: words changed, edits of all words; infinite: not allowed."""

    words: float = 0
    edits: float = 0

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(self.words + other.words, self.edits + other.edits)


NEVER: Final = Spent(math.inf, math.inf)


def spent(
    text: str, changed: str, kinds: Collection[str], substitutes: Substitutes, per_word: float
) -> Spent:
    """The fewest words, and of these ways the fewest edits, that make `changed` of `text`.

    A word is a run of letters and digits; what stands between words stays as it is.

    Args:
        substitutes: for words in lower case, the words that may stand for them.
        per_word: most edits in one word.
    """
    if text == changed:
        return Spent()
    tokens = _TOKENS.findall(text)
    # What both begin with is left alone: dynamic programming over all of it takes long.
    start = at = 0
    while start < len(tokens) - 1 and changed.startswith(tokens[start], at):
        at += len(tokens[start])
        start += 1
    start, at = max(0, start - 2), at - sum(map(len, tokens[max(0, start - 2) : start]))
    rest, region = tokens[start:], changed[at:]

    @cache
    def best(index: int, pos: int) -> Spent:
        if index == len(rest):
            return Spent() if pos == len(region) else NEVER
        token = rest[index]
        found = NEVER
        if region.startswith(token, pos):
            found = best(index + 1, pos + len(token))
            if found.words == 0 or not WORD.match(token):
                return found
        if WORD.match(token):
            for end in _ends(region, pos, rest[index + 1 :], len(token)):
                cost = word_edits(token, region[pos:end], kinds, substitutes)
                if cost <= per_word and cost < math.inf:
                    found = min(found, Spent(1, cost) + best(index + 1, end))
        return found

    return best(0, 0)


def _ends(region: str, pos: int, following: list[str], size: int) -> list[int]:
    """Where a changed word may end: before what follows it, or at the end."""
    last = min(len(region), pos + _TIMES * size + _MORE)
    if not following:
        return [len(region)] if len(region) == last else []
    ends, at = [], region.find(following[0], pos)
    while at != -1 and at <= last:
        ends.append(at)
        at = region.find(following[0], at + 1)
    return ends


def word_edits(word: str, changed: str, kinds: Collection[str], substitutes: Substitutes) -> float:
    """The fewest allowed edits that make `changed` of `word`; infinite if there are none."""
    if "substitution" in kinds and changed.lower() in substitutes.get(word.lower(), ()):
        return 1
    if "direction" in kinds and changed == f"{OVERRIDE}{word[::-1]}{POP}":
        return 1
    n, m = len(word), len(changed)
    cost = [[math.inf] * (m + 1) for _ in range(n + 1)]
    cost[0][0] = 0
    for i in range(n + 1):
        for j in range(m + 1):
            here = cost[i][j]
            if here == math.inf:
                continue
            for read, written, price in _steps(word, changed, i, j, kinds):
                cost[i + read][j + written] = min(cost[i + read][j + written], here + price)
    return cost[n][m]


def _steps(
    word: str, changed: str, i: int, j: int, kinds: Collection[str]
) -> list[tuple[int, int, int]]:
    """(letters of the word, characters of the changed word, edits): what may come next."""
    steps = []
    letter = word[i] if i < len(word) else ""
    near = KEYS.get(letter.lower(), "")
    if letter and changed[j : j + 1] == letter:
        steps.append((1, 1, 0))
    if "typo" in kinds and letter:
        steps.append((1, 0, 1))
        if changed[j : j + 2] == word[i : i + 2][::-1] and i + 1 < len(word):
            steps.append((2, 2, 1))
    if letter and "homoglyph" in kinds:
        steps += [
            (1, len(each), 1)
            for each in alike().get(letter, ())
            if each != letter and changed.startswith(each, j)
        ]
    if j == len(changed):
        return steps
    sign = changed[j]
    if letter and "leet" in kinds and sign in LEET.get(letter.lower(), ""):
        steps.append((1, 1, 1))
    if "typo" in kinds and letter and sign.lower() in near:
        steps.append((1, 1, 1))
    before = word[i - 1] if i else ""
    inserted = (
        ("zero-width" in kinds and sign in INVISIBLE)
        or ("direction" in kinds and sign in MARKS)
        or ("spacing" in kinds and 0 < i < len(word) and sign in SEPARATORS + " ")
        or ("double" in kinds and i and sign == before)
        or ("typo" in kinds and i and sign.lower() in KEYS.get(before.lower(), ""))
    )
    if inserted:
        steps.append((0, 1, 1))
    return steps
