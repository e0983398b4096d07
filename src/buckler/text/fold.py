"""What a text says once its disguise is off: characters folded, words as keys.

NFKC, no format characters, look-alikes as what they look like (UTS #39), overridden directions
resolved. After Boucher et al., "Bad Characters" (IEEE S&P 2022, arXiv:2106.09898), whose attacks it
undoes, and Jones et al., "Robust Encodings" (ACL 2020, arXiv:2005.01229), for keys.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from buckler.text.confusables import skeleton
from buckler.text.signs import INVISIBLE, LEET, OVERRIDE, POP

_KEPT = "\t\n\r"
_MARKS = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f]"
)
_BLANK = "\u115f\u1160\u3164\uffa0\u17b4\u17b5\u2800"  # letters by name, nothing on the page
_NAMED = re.compile(r"LETTER (?:SMALL CAPITAL )?([A-Z])(?: WITH .*)?$")
_OVERRIDDEN = re.compile(
    f"{OVERRIDE}([^\u202a-\u202e\u2066-\u2069\n]*)(?:{POP}|(?=\n)|$|(?=[\u202a-\u202e\u2066-\u2069]))"
)
_READ: Final = str.maketrans({sign: letter for letter, signs in LEET.items() for sign in signs} | {
    "l": "i", "1": "i", "!": "i", "|": "i",
})  # fmt: skip
_NO_LETTER = re.compile(r"[\W\d_]+")
_RUN = re.compile(r"(.)\1+")
_RN = re.compile(r"(?:rn){2,}")


@dataclass(frozen=True)
class Folded:
    """A text without its disguise; character i of it came of character `origin[i]` of the first."""

    text: str
    origin: tuple[int, ...]


class _Table(dict[int, str]):
    """By code point, filled as they come."""

    def __missing__(self, point: int) -> str:
        self[point] = found = _folded(chr(point))
        return found


_TABLE = _Table()


def fold(text: str) -> str:
    """The text as it is read.

    >>> fold("fr\u0435\u0435 \u202eyenom\u202c\u200b")
    'free money'
    """
    if text.isascii() and text.isprintable():
        return text
    if OVERRIDE in text:
        return fold_with_origin(text).text
    return text.translate(_TABLE)


def fold_with_origin(text: str) -> Folded:
    """The same, and where each character came from."""
    order = list(range(len(text)))
    shown = text
    while found := _OVERRIDDEN.search(shown):
        start, stop = found.span()
        first, last = found.span(1)
        order[start:stop] = order[first:last][::-1]
        shown = shown[:start] + found[1][::-1] + shown[stop:]
    parts = [_TABLE[ord(c)] for c in shown]
    origin = tuple(at for at, part in zip(order, parts, strict=True) for _ in part)
    return Folded("".join(parts), origin)


def key(word: str) -> str:
    """What stays of a word, whatever look-alikes, leet, signs between its letters or letters
    written twice it is disguised with. Words that differ may share one.

    >>> key("F.U.N.N.Y") == key("fuñ$ny".replace("$", "")) == key("funnnny")
    True
    """
    return _key(fold(word))


def spelled(word: str) -> str:
    """The letters of a word, signs read as letters, none taken together yet."""
    return _NO_LETTER.sub("", fold(word).lower().translate(_READ))


def letters(text: str) -> str:
    """The keys of all words as one string without spaces: spaces put into words change nothing."""
    return _key(fold(text))


def keys(text: str) -> str:
    """The keys of what stands between blanks, with one space between them."""
    return " ".join(filter(None, map(_key, fold(text).split())))


def joined(one: str, other: str) -> str:
    """The key of a word that was cut in two, from the keys of its parts."""
    return _once(one + other)


def key_of(spelled_: str) -> str:
    """The key of a word from its letters, as `spelled` gives them."""
    # m and rn look alike; written as rn, the key of a word is its parts' keys in a row.
    return _once(spelled_.replace("m", "rn"))


def _once(name: str) -> str:
    """Runs of a letter as one, then runs of rn, which stand for runs of m: that leaves no others.
    Most have none, and to look is quicker than to replace."""
    name = _RUN.sub(r"\1", name) if _RUN.search(name) else name
    return _RN.sub("rn", name) if "rnrn" in name else name


def _key(folded: str) -> str:
    return key_of(_NO_LETTER.sub("", folded.lower().translate(_READ)))


def _folded(character: str) -> str:
    if character in _KEPT:
        return character
    kind = unicodedata.category(character)
    if kind in ("Cf", "Cc", "Cn", "Co") or character in INVISIBLE or character in _BLANK:
        return ""
    if kind == "Zs" and not character.isascii():
        return " "
    looks = skeleton(character)
    if looks.isascii():
        return looks
    plain = _MARKS.sub("", unicodedata.normalize("NFKD", character))
    read = "".join(map(_letter, plain))
    return unicodedata.normalize("NFKC", read)


def _letter(character: str) -> str:
    found = skeleton(character)
    name = unicodedata.name(character, "")
    latin = _NAMED.search(name) if "LATIN" in name or "REGIONAL" in name else None
    return found if found.isascii() or latin is None else latin[1].lower()
