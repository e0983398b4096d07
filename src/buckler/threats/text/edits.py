"""The attacker of a text: k words, k edits, of the kinds that are named."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self, get_args

import torch
from torch import Tensor

from buckler.errors import UsageError
from buckler.text.codes import BOX, decode
from buckler.threats.goal import Goal
from buckler.threats.text.align import Spent, spent

Kind = Literal[
    "homoglyph", "zero-width", "direction", "leet", "spacing", "double", "typo", "substitution"
]
KINDS: Final = get_args(Kind)
DISGUISES: Final[tuple[Kind, ...]] = KINDS[:-2]
"""Kinds that leave what a person reads as it was."""


@dataclass(frozen=True)
class TextEdits:
    """The attacker may change so many words of a text, by so many edits of these kinds.

    homoglyph: a character becomes one of Unicode's confusables. zero-width, direction: one that is
    not seen is put in; direction may also write a word backwards inside an override. leet: a digit
    or sign for a letter. spacing: a space or sign between two letters. double: a letter twice.
    typo: a letter dropped, changed with the next, replaced by or followed by one beside it on the
    keyboard. substitution: a word of the user's list, in place of the whole word.

    Args:
        words: that may be changed; a word is a run of letters and digits. math.inf: all.
        kinds: of edits.
        edits: of all words together; math.inf: no limit.
        per_word: edits in one word.
        substitutes: for a word in lower case the words that may stand for it.
        goal: which answers count as a win.

    Raises: UsageError for limits below 1, unknown kinds, and substitution without a list.
    """

    words: float
    kinds: tuple[Kind, ...] = DISGUISES
    edits: float = math.inf
    per_word: float = math.inf
    substitutes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    goal: Goal = field(default_factory=Goal)

    def __post_init__(self) -> None:
        limits = (self.words, self.edits, self.per_word)
        if not all(limit >= 1 and (limit == math.inf or limit == int(limit)) for limit in limits):
            raise UsageError(
                "words, edits and per_word must be whole numbers >= 1, or math.inf. "
                f"Got {self.words}, {self.edits}, {self.per_word}"
            )
        strange = [kind for kind in self.kinds if kind not in KINDS]
        if strange or not self.kinds:
            raise UsageError(f"kinds must be some of {', '.join(KINDS)}. Got {self.kinds}")
        if ("substitution" in self.kinds) != bool(self.substitutes):
            raise UsageError(
                "the kind 'substitution' goes with a list of substitutes, and a list with the kind"
            )

    def __str__(self) -> str:
        limits = [f"{self.words:g} words"]
        limits += [f"{self.edits:g} edits"] * (self.edits < math.inf)
        limits += [f"{self.per_word:g} a word"] * (self.per_word < math.inf)
        return f"{', '.join(limits)} by {', '.join(self.kinds)}"

    @property
    def box(self) -> tuple[float, float]:
        return BOX

    def spent(self, text: str, changed: str) -> Spent:
        """What `changed` costs; infinite if no way there is allowed."""
        return spent(text, changed, self.kinds, self.substitutes, self.per_word)

    def allows(self, text: str, changed: str) -> bool:
        """Whether the fewest words' way there is within the limits."""
        cost = self.spent(text, changed)
        return cost.words <= self.words and cost.edits <= self.edits and cost.words < math.inf

    def distance(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) words that were changed."""
        pairs = zip(decode(x), decode(x_adv), strict=True)
        return torch.tensor([self.spent(one, other).words for one, other in pairs]).to(x)

    def contains(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """(n,) bool: the attacker may send x_adv instead of x."""
        pairs = zip(decode(x), decode(x_adv), strict=True)
        found = [self.allows(one, other) for one, other in pairs]
        return torch.tensor(found, dtype=torch.bool, device=x.device)

    def project(self, x: Tensor, x_adv: Tensor) -> Tensor:
        """x_adv where it is allowed, else x: texts have nothing in between."""
        return torch.where(self.contains(x, x_adv)[:, None], x_adv, x)

    def steepest(self, grad: Tensor) -> Tensor:
        """Raises: UsageError."""
        raise UsageError("texts have no gradient: attack them with TextSearch")

    def random_point(self, x: Tensor, seed: int, rows: Tensor, step: int) -> Tensor:
        """x itself: what is drawn at random among all edits is TextSearch's to say."""
        return x.clone()

    def take(self, idx: Tensor | slice) -> Self:
        """The threat of some of the rows."""
        return replace(self, goal=self.goal.take(idx))

    def with_goal(self, goal: Goal) -> Self:
        return replace(self, goal=goal)

    def unbounded(self, x: Tensor) -> Self:
        """The same kinds with no limit."""
        return replace(self, words=math.inf, edits=math.inf, per_word=math.inf)

    def to_dict(self) -> dict[str, object]:
        def number(limit: float) -> float | None:
            return None if limit == math.inf else limit

        return {
            "kind": "text",
            "words": number(self.words),
            "edits": number(self.edits),
            "per_word": number(self.per_word),
            "kinds": list(self.kinds),
            "substitutes": len(self.substitutes),
            "goal": self.goal.kind,
        }
