"""The normaliser: takes disguise off a text, and knows where each word stood in the original."""

import re
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from buckler.defenses.text.spelling import LEAST, Lexicon
from buckler.text.fold import fold, fold_with_origin, joined, key_of, spelled

_TOKEN = re.compile(r"\S+")
_PIECES: Final = 12  # tokens that one word may have been cut into
_REMEMBERED: Final = 50_000


@dataclass(frozen=True)
class Span:
    """`text` [start:stop] of the normalised text stands where the original has [first:last]."""

    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class Normalised:
    """A text as the classifier reads it; spans: the words that are not as they were written."""

    text: str
    spans: tuple[Span, ...]


class _Token(NamedTuple):
    """What stands between blanks. read: as it was meant, itself if it is plain, None if unknown;
    quiet: plain, and no watched word begins so."""

    text: str
    read: str | None
    key: str
    letters: int
    plain: bool
    quiet: bool


@dataclass(frozen=True)
class Normaliser:
    """Text → text: NFKC, no format characters, look-alikes as what they look like; with a lexicon
    also leet, letters spaced out or doubled, and slips, where a word of the lexicon is behind them.

    For classifiers of words in Latin letters: letters of other scripts that look Latin are read so.
    Its adaptive attacker sees through it: see `buckler.attacks.TextSearch`.

    Args:
        lexicon: without one, words stay as the characters say.
    """

    lexicon: Lexicon | None = None
    name: str = "normaliser"
    _seen: dict[str, _Token] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __call__(self, text: str) -> str:
        folded = fold(text)
        if self.lexicon is None:
            return folded
        parts, done = [], 0
        for start, stop, word in self._readings(folded, self.lexicon):
            parts += [folded[done:start], word]
            done = stop
        return "".join([*parts, folded[done:]])

    def explain(self, text: str) -> Normalised:
        """What the classifier reads, and of each word that was changed, where it stood."""
        folded = fold_with_origin(text)
        readings = [] if self.lexicon is None else self._readings(folded.text, self.lexicon)
        words = {start: (stop, word) for start, stop, word in readings}
        out, spans, at = [], [], 0
        size = 0
        for found in _TOKEN.finditer(folded.text):
            start, stop = found.span()
            if start < at:
                continue
            out.append(folded.text[at:start])
            size += start - at
            stop, word = words.get(start, (stop, folded.text[start:stop]))
            origin = folded.origin[start:stop]
            first, last = min(origin), max(origin) + 1
            # What was written before the word and is not seen belongs to it.
            if text[first:last] != word:
                spans.append(Span(size, size + len(word), first, last))
            out.append(word)
            size += len(word)
            at = stop
        return Normalised("".join([*out, folded.text[at:]]), tuple(spans))

    def _readings(self, folded: str, lexicon: Lexicon) -> list[tuple[int, int, str]]:
        """(start, stop, word) of the folded text's parts that are read as something else."""
        seen = self._seen
        tokens = [seen.get(each) or self._token(each, lexicon) for each in folded.split()]
        # Where a word that is none stands, or may have been cut: the rest is as it is.
        starts = {at for at, token in enumerate(tokens) if not token.quiet}
        starts |= {at - 1 for at in starts if at and not tokens[at].plain}
        if not starts:
            return []
        spots = [found.span() for found in _TOKEN.finditer(folded)]
        found, done = [], 0
        for at in sorted(starts):
            if at < done:
                continue
            count, word = self._joined(tokens, at, lexicon)
            if word is not None:
                found.append((spots[at][0], spots[at + count - 1][1], word))
                done = at + count
        return found

    def _token(self, token: str, lexicon: Lexicon) -> _Token:
        if len(self._seen) >= _REMEMBERED:
            self._seen.clear()
        read, letters = lexicon.read(token), spelled(token)
        plain, name = read == token, key_of(letters)
        found = _Token(token, read, name, len(letters), plain, plain and name not in lexicon.hinted)
        self._seen[token] = found
        return found

    def _joined(self, tokens: list[_Token], at: int, lexicon: Lexicon) -> tuple[int, str | None]:
        """How many tokens from `at` on are read as one, and as what; None: as they are."""
        first = tokens[at]
        count, word = 1, None if first.read == first.text else first.read
        whole, letters, strange = first.key, first.letters, not first.plain
        single = letters == 1
        for stop in range(at + 1, min(len(tokens), at + _PIECES)):
            if whole not in lexicon.begun:
                break
            piece = tokens[stop]
            whole, letters = joined(whole, piece.key), letters + piece.letters
            strange |= not piece.plain
            single &= piece.letters == 1
            if letters >= LEAST and (found := lexicon.by_key.get(whole)) is not None:
                cut = found in lexicon.heeded or single or strange
                if piece.key and cut:
                    count, word = stop - at + 1, found
        return count, word
