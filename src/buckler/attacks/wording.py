"""What a word can be written as under a threat: every single edit, and draws of several."""

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Final

from buckler.text.confusables import alike
from buckler.text.signs import INVISIBLE, KEYS, LEET, MARKS, OVERRIDE, POP, SEPARATORS
from buckler.threats.text import Kind, TextEdits

_SEVERAL: Final = 6  # draws of several edits, for each number of them


def variants(word: str, threat: TextEdits, most: int, seed: int) -> list[str]:
    """Up to `most` different spellings of the word: all of one edit and draws of more, by kinds in
    turn, drawn by the seed where there are more.

    Each is within `threat.per_word` edits.
    """
    random = Random(seed)
    by_kind = []
    for kind in threat.kinds:
        single = [each for each in dict.fromkeys(_single(word, kind, threat)) if each != word]
        random.shuffle(single)
        more = list(_several(word, (kind,), threat, random))
        # One of each in turn: neither crowds out the other.
        by_kind.append(_in_turn([more, single]))
    if len(threat.kinds) > 1:
        by_kind.append(list(_several(word, threat.kinds, threat, random)))
    found = dict.fromkeys(_in_turn(by_kind))
    found.pop(word, None)
    return list(found)[:most]


def _in_turn(lists: list[list[str]]) -> list[str]:
    longest = max(map(len, lists), default=0)
    return [each[at] for at in range(longest) for each in lists if at < len(each)]


def _single(word: str, kind: Kind, threat: TextEdits) -> Iterator[str]:
    if kind == "substitution":
        for other in threat.substitutes.get(word.lower(), ()):
            yield other.capitalize() if word[:1].isupper() else other
        return
    if kind == "direction":
        yield f"{OVERRIDE}{word[::-1]}{POP}"
    for at in range(len(word)):
        yield from (word[:at] + part + word[at + 1 :] for part in _written(word[at], kind))
        yield from (word[: at + 1] + sign + word[at + 1 :] for sign in _after(word, at, kind))
        if kind == "typo" and len(word) > 1:
            yield word[:at] + word[at + 1 :]
            yield word[:at] + word[at : at + 2][::-1] + word[at + 2 :]


def _several(
    word: str, kinds: tuple[Kind, ...], threat: TextEdits, random: Random
) -> Iterator[str]:
    """Draws in which 2, 3, … letters are each edited once."""
    letterwise = [kind for kind in kinds if kind != "substitution"]
    top = min(len(word), threat.per_word, threat.edits)
    for count in range(int(top), 1, -1):
        for _ in range(_SEVERAL if letterwise else 0):
            places = set(random.sample(range(len(word)), count))
            parts = []
            for at, letter in enumerate(word):
                parts.append(letter)
                kind = random.choice(letterwise)
                written, after = _written(letter, kind), _after(word, at, kind)
                if at not in places or not (written or after):
                    continue
                if written and (not after or random.random() < 0.5):
                    parts[-1] = random.choice(written)
                else:
                    parts[-1] += random.choice(after)
            yield "".join(parts)


@lru_cache(maxsize=4096)
def _written(letter: str, kind: Kind) -> tuple[str, ...]:
    """What may be written for the letter."""
    if kind == "homoglyph":
        return tuple(sorted(alike().get(letter, frozenset()) - {letter}))
    if kind == "leet":
        return tuple(LEET.get(letter.lower(), ""))
    if kind == "typo":
        near = KEYS.get(letter.lower(), "")
        return tuple(near.upper() if letter.isupper() else near)
    return ()


def _after(word: str, at: int, kind: Kind) -> tuple[str, ...]:
    """What may be put in after the letter at this place."""
    if kind == "zero-width":
        return tuple(INVISIBLE)
    if kind == "direction":
        return tuple(MARKS)
    if kind == "spacing":
        return tuple(SEPARATORS + " ") if at + 1 < len(word) else ()
    if kind == "double":
        return (word[at],)
    if kind == "typo":
        return tuple(KEYS.get(word[at].lower(), ""))
    return ()
