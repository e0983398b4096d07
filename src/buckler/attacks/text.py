"""Greedy search over the words of a text, the most important first."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from buckler import draws
from buckler.attacks.engine import checked_rows, logits_of
from buckler.attacks.wording import variants
from buckler.errors import UsageError
from buckler.protocols import Classifier, Threat
from buckler.text.codes import decode, encode
from buckler.threats.text import TextEdits
from buckler.threats.text.align import WORD


@dataclass(frozen=True)
class _State:
    """One text on its way: what it was, the words not changed yet as (start, stop) in `text`, by
    importance, and what the changes cost so far."""

    row: int
    text: str
    score: float
    free: tuple[tuple[int, int], ...]
    words: int = 0
    edits: float = 0


@dataclass(frozen=True)
class TextSearch:
    """Words are ranked by what the objective gains when they are left out; then, step by step, the
    spelling that gains most among all spellings of the most important words is kept.

    Each step asks about the candidates of all rows in one batch. The ranking is DeepWordBug's and
    TextFooler's (Gao et al. 2018, arXiv:1801.04354; Jin et al. 2020, arXiv:1907.11932); deviation:
    several words compete in each step, and every edit of the threat is a candidate.

    Args:
        tries: spellings of a word that are tried.
        compete: words that compete in a step.
        sees: text → what the classifier reads: the defender's normaliser. Of spellings that read
            alike only one is asked about, so that the tries go where they can win.
    """

    tries: int = 64
    compete: int = 4
    sees: Callable[[str], str] | None = field(default=None, compare=False, repr=False)
    name: str = "TextSearch"

    def __post_init__(self) -> None:
        if min(self.tries, self.compete) < 1:
            raise UsageError(
                f"TextSearch needs tries and compete >= 1. Got {self.tries}, {self.compete}"
            )

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor,
        threat: Threat,
        *,
        seed: int = 0,
        rows: Tensor | None = None,
    ) -> Tensor:
        if not isinstance(threat, TextEdits):
            raise UsageError(f"{self.name} needs TextEdits (words, kinds of edits). Got {threat}")
        x, rows = checked_rows(x, y, threat, rows)
        ids = rows.tolist()

        def ask(states: list[_State], texts: list[str]) -> list[float]:
            """The objective of each text, made of the row of its state."""
            if not texts:
                return []
            owner = torch.tensor([state.row for state in states])
            points = encode(texts, x.shape[1]).to(x)
            logits = logits_of(model, points)
            found: list[float] = threat.goal.take(owner).objective(logits, y[owner]).tolist()
            return found

        texts = decode(x)
        states = [_State(row, text, 0.0, ()) for row, text in enumerate(texts)]
        scores = ask(states, texts)
        states = [replace(state, score=score) for state, score in zip(states, scores, strict=True)]
        best = list(states)
        active = self._ranked([state for state in states if state.score <= 0], ask)
        while active:
            active = self._step(active, threat, x.shape[1], seed, ids, ask)
            for state in active:
                best[state.row] = state
            active = [state for state in active if state.score <= 0 and state.words < threat.words]
        # x itself, to the bit, where nothing was changed.
        found = encode([state.text for state in best], x.shape[1]).to(x) if len(x) else x.clone()
        return found

    def _ranked(
        self, states: list[_State], ask: Callable[[list[_State], list[str]], list[float]]
    ) -> list[_State]:
        """With their words in order, those first whose loss gains most."""
        spans = [[found.span() for found in WORD.finditer(state.text)] for state in states]
        owners = [state for state, each in zip(states, spans, strict=True) for _ in each]
        without = [
            (state.text[:start] + state.text[stop:]) or " "
            for state, each in zip(states, spans, strict=True)
            for start, stop in each
        ]
        gains = iter(ask(owners, without))
        ranked = []
        for state, each in zip(states, spans, strict=True):
            order = sorted(each, key=lambda span: (-next(gains), span))
            ranked.append(replace(state, free=tuple(order)))
        return [state for state in ranked if state.free]

    def _step(
        self,
        states: list[_State],
        threat: TextEdits,
        length: int,
        seed: int,
        ids: list[int],
        ask: Callable[[list[_State], list[str]], list[float]],
    ) -> list[_State]:
        """Each state with its best further word changed; those that none improves are left out."""
        made = [
            candidate
            for state in states
            for candidate in self._candidates(
                state, threat, length, draws.derive(seed, ids[state.row])
            )
        ]
        scores = ask(made, [state.text for state in made])
        better: dict[int, _State] = {}
        limit = {state.row: state.score for state in states}
        for state, score in zip(made, scores, strict=True):
            if score > limit[state.row]:
                limit[state.row] = score
                better[state.row] = replace(state, score=score)
        return list(better.values())

    def _candidates(self, state: _State, threat: TextEdits, length: int, seed: int) -> list[_State]:
        found, read = [], set()
        for start, stop in state.free[: self.compete]:
            word = state.text[start:stop]
            wide = self.tries if self.sees is None else 4 * self.tries
            kept = 0
            for spelling in variants(word, threat, wide, draws.derive(seed, word)):
                text = state.text[:start] + spelling + state.text[stop:]
                if kept == self.tries:
                    break
                if len(text) > length:
                    continue
                if self.sees is not None:
                    seen = self.sees(text)
                    if seen in read:
                        continue
                    read.add(seen)
                changed = self._changed(state, text, (start, stop), len(spelling))
                if threat.edits < float("inf"):
                    cost = threat.spent(word, spelling).edits
                    if state.edits + cost > threat.edits:
                        continue
                    changed = replace(changed, edits=state.edits + cost)
                found.append(changed)
                kept += 1
        return found

    def _changed(self, state: _State, text: str, span: tuple[int, int], size: int) -> _State:
        """The state with the word of this span replaced; later words have moved."""
        start, stop = span
        by = size - (stop - start)
        free = tuple(
            (a + by, b + by) if a >= stop else (a, b) for a, b in state.free if (a, b) != span
        )
        return replace(state, text=text, free=free, words=state.words + 1)
