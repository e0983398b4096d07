"""Characters that look alike (Unicode's confusables.txt, UTS #39), as classes."""

import unicodedata
from functools import cache
from pathlib import Path

_FILE = Path(__file__).with_name("confusables.txt")
VERSION = "13.0.0"


@cache
def alike() -> dict[str, frozenset[str]]:
    """For each character or short string of the table, all that look like it, itself included."""
    parent: dict[str, str] = {}

    def root(each: str) -> str:
        parent.setdefault(each, each)
        while parent[each] != each:
            parent[each] = parent[parent[each]]
            each = parent[each]
        return each

    for line in _FILE.read_text("ascii").splitlines():
        if not line.startswith("#"):
            source, target = (_string(part) for part in line.split(";"))
            parent[root(source)] = root(target)
    classes: dict[str, set[str]] = {}
    for each in parent:
        classes.setdefault(root(each), set()).add(each)
    whole = {key: frozenset(members) for key, members in classes.items()}
    return {each: whole[root(each)] for each in parent}


@cache
def homoglyphs(character: str) -> tuple[str, ...]:
    """Other single characters that look like this one, beyond ASCII, in order."""
    members = alike().get(character, frozenset())
    return tuple(sorted(c for c in members if len(c) == 1 and c != character and not c.isascii()))


@cache
def skeleton(character: str) -> str:
    """What a character beyond ASCII looks like, in ASCII; itself where nothing there does.

    A letter before a digit before a sign: what is read is words. Deviation from UTS #39, whose
    skeletons also join ASCII characters with each other (m with rn, 0 with O): those are left.
    """
    members = [each for each in alike().get(character, ()) if each.isascii() and each.isprintable()]
    if not members or character.isascii():
        return character
    plain = unicodedata.normalize("NFKC", character)
    if plain in members:
        return plain
    return min(members, key=lambda each: (len(each), not each.isalpha(), not each.isalnum(), each))


def _string(points: str) -> str:
    return "".join(chr(int(each, 16)) for each in points.split())
