"""Words as they were meant: a lexicon found by keys, and by one slip of the pen."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from buckler.errors import UsageError
from buckler.text.fold import joined, key, key_of, spelled
from buckler.text.signs import LEET

LEAST: Final = 3
"""Letters that a key must have before a word is read out of it: shorter ones say too little."""
_PIECES = re.compile(r"[^\W_]+|[\W_]")
_LETTERS_OF_SIGNS: Final = frozenset(
    sign for signs in LEET.values() for sign in signs if not sign.isalnum()
)
_PLAIN: Final = ".,?:;\"'#&*-_~…“”‘’"
"""Signs at the end of a word that are no letters."""
_MOST: Final = 16  # pieces of a token that one word may be made of
_SINGLE: Final = frozenset("aiu")


@dataclass(frozen=True)
class Lexicon:
    """The words that are left as they are, and that disguised words are read as.

    Args:
        words: lower case, the most frequent first: of words that look alike the first is read, and
            a watched one before all others.
        watched: those of them that a word with one slip (a letter dropped, added, replaced or
            changed with its neighbour) is read as; the fewer, the fewer wrong readings.

    Raises: UsageError for watched words that are no words of the lexicon.
    """

    words: tuple[str, ...]
    watched: tuple[str, ...] = ()
    heeded: frozenset[str] = field(init=False, repr=False, compare=False)
    known: frozenset[str] = field(init=False, repr=False, compare=False)
    by_key: dict[str, str] = field(init=False, repr=False, compare=False)
    by_slip: dict[str, tuple[str, ...]] = field(init=False, repr=False, compare=False)
    begun: frozenset[str] = field(init=False, repr=False, compare=False)
    hinted: frozenset[str] = field(init=False, repr=False, compare=False)
    longest: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        known = frozenset(self.words)
        if strange := sorted(set(self.watched) - known):
            raise UsageError(f"watched words must be words of the lexicon. Got {strange[0]!r}")
        by_key = _first((*self.watched, *self.words))
        slips: dict[str, list[str]] = {}
        for word in self.watched:
            meant = spelled(word)
            for short in (meant, *_shorter(meant)):
                slips.setdefault(short, []).append(word)
        object.__setattr__(self, "heeded", frozenset(self.watched))
        object.__setattr__(self, "known", known)
        object.__setattr__(self, "by_key", by_key)
        object.__setattr__(self, "by_slip", {k: tuple(v) for k, v in slips.items()})
        object.__setattr__(self, "begun", _beginnings(by_key))
        object.__setattr__(self, "hinted", _beginnings(map(key, self.watched)))
        object.__setattr__(self, "longest", max(map(len, self.words), default=0))

    def knows(self, piece: str) -> bool:
        """A word of the lexicon, a number, or a letter that is a word."""
        return piece.lower() in self.known or piece.isdecimal() or piece in _SINGLE

    def read(self, token: str) -> str | None:
        """A token without spaces, its words as they were meant; None if nobody knows one of them.

        Signs inside it may be letters, or put between letters, or what they are: the longest run of
        pieces that is a word is read as one.
        """
        if self.knows(token.strip(_PLAIN)):
            return token
        pieces = _PIECES.findall(token)
        letters = [spelled(piece) for piece in pieces]
        parts, at, sure = [], 0, True
        while at < len(pieces):
            stop, word = self._word(pieces, letters, at)
            if word is None:
                word = pieces[at]
                sure &= not word.isalnum() or self.knows(word)
            parts.append(word)
            at = stop
        return "".join(parts) if sure or "".join(parts) != token else None

    def _word(self, pieces: list[str], letters: list[str], at: int) -> tuple[int, str | None]:
        """Where the longest word from this piece on ends, and which it is; None: the piece."""
        if not letters[at]:
            return at + 1, None
        found: tuple[int, str] | None = None
        whole, count, known = "", 0, self.knows(pieces[at])
        for stop in range(at + 1, min(len(pieces), at + _MOST) + 1):
            more = letters[stop - 1]
            if not more:
                continue
            whole, count = joined(whole, key_of(more)), count + len(more)
            if whole not in self.begun:
                break
            word = self.by_key.get(whole) if count >= LEAST else None
            alone = stop == at + 1
            if word and (not known if alone else self._disguised(pieces[at:stop], word)):
                found = stop, word
        if found is None and not known and self.by_slip and pieces[at].isalnum():
            return at + 1, self._misspelt(letters[at])
        return found or (at + 1, None)

    def _disguised(self, part: list[str], word: str) -> bool:
        """Several pieces are one word: a sign among them is a letter, one is no word, or the word
        is watched. What has only apostrophes inside is written so by everyone."""
        if word in self.heeded or any(each in _LETTERS_OF_SIGNS for each in part):
            return True
        unknown = any(each.isalnum() and not self.knows(each) for each in part)
        return unknown and not all(each.isalnum() or each in "'’" for each in part)

    def _misspelt(self, found: str) -> str | None:
        """The watched word that one slip makes these letters of."""
        if not LEAST <= len(found) <= self.longest + 1:
            return None
        for short in (found, *_shorter(found)):
            for word in self.by_slip.get(short, ()):
                if len(word) >= LEAST and _one_slip(found, spelled(word)):
                    return word
        return None


def _first(words: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        name = key(word)
        if len(spelled(word)) >= LEAST:
            found.setdefault(name, word)
    return found


def _beginnings(words: Iterable[str]) -> frozenset[str]:
    return frozenset(word[:stop] for word in words for stop in range(1, len(word) + 1))


def _shorter(word: str) -> Iterator[str]:
    return (word[:at] + word[at + 1 :] for at in range(len(word)))


def _one_slip(one: str, other: str) -> bool:
    """Optimal string alignment distance of at most 1."""
    if abs(len(one) - len(other)) > 1:
        return False
    start = 0
    while start < min(len(one), len(other)) and one[start] == other[start]:
        start += 1
    a, b = one[start:], other[start:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])
