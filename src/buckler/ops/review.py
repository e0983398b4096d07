"""The rules of the review queue: what comes first, who holds it, when an answer stands.

Times are unix seconds and are passed in; nothing here reads a clock.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from buckler.errors import UsageError

Kind = Literal["accept", "label", "adversarial", "corrupted", "unsure"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
OnDue = Literal["alert", "escalate", "close"]


@dataclass(frozen=True)
class Policy:
    """How a queue is run.

    Args:
        lease_s: seconds a reviewer holds an item before it is free again.
        agree, of: an answer stands once `agree` of at most `of` reviewers gave it.
        due_s: seconds after which an item should have been decided.
        on_due: what happens then: tell ("alert"), tell and pass it to a senior reviewer
            ("escalate"), or tell and take it off the queue, SUSPICIOUS for good ("close").
        blind: the reviewer answers before the machine's prediction is shown.
        client_cap: items of one client that wait at once; more are parked until there is room.
        near_bits: fingerprints (64 bits) of one client that differ in so many are one group.
        known_share: share of a reviewer's items whose answer is known, to measure the reviewer.
    """

    lease_s: float = 600.0
    agree: int = 1
    of: int = 1
    due_s: float = 86_400.0
    on_due: OnDue = "escalate"
    blind: bool = False
    client_cap: int = 100
    near_bits: int = 4
    known_share: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.agree <= self.of:
            raise UsageError(
                f"agree must be 1 or more and at most of. Got {self.agree} of {self.of}"
            )
        if self.lease_s <= 0 or self.due_s <= 0:
            raise UsageError(
                "lease_s and due_s must be seconds above 0. "
                f"Got {self.lease_s:g} and {self.due_s:g}"
            )
        if self.on_due not in get_args(OnDue):
            raise UsageError(f"on_due must be alert, escalate or close. Got {self.on_due!r}")
        if self.client_cap < 1 or not 0 <= self.near_bits < 64:
            raise UsageError(
                "client_cap must be 1 or more and near_bits 0 to 63. "
                f"Got {self.client_cap} and {self.near_bits}"
            )
        if not 0 <= self.known_share < 1:
            raise UsageError(f"known_share must lie in [0, 1). Got {self.known_share:g}")


@dataclass(frozen=True)
class Answer:
    """What a reviewer said. label: the true class, where the kind names one."""

    kind: Kind
    label: str | None = None
    senior: bool = False


@dataclass(frozen=True)
class Ruling:
    """What the answers so far amount to; `answer` where they decide."""

    state: Literal["open", "decided", "escalate"]
    answer: Answer | None = None


def priority(risk: float, created: float, now: float) -> float:
    """Risk × age in seconds, and an item is at least a second old: what is claimed first.

    Risk alone would leave mild items for ever; age alone would leave the dangerous ones waiting.

    >>> priority(0.5, created=100.0, now=160.0)
    30.0
    """
    return risk * max(1.0, now - created)


def lease_until(now: float, policy: Policy) -> float:
    """When a lease taken or renewed now ends."""
    return now + policy.lease_s


def is_free(until: float | None, now: float) -> bool:
    """Nobody holds the item: no lease, or one that ended. An end is a free moment."""
    return until is None or until <= now


def check_answer(kind: str, label: str | None) -> Answer:
    """The answer, if its kind exists and its label fits. Raises: UsageError."""
    known = next((name for name in KINDS if name == kind), None)
    if known is None:
        raise UsageError(f"a decision must be one of {', '.join(KINDS)}. Got {kind!r}")
    if known == "label" and not label:
        raise UsageError("the decision label needs the true class: give a label")
    if known in ("accept", "corrupted", "unsure") and label is not None:
        raise UsageError(f"the decision {known} takes no label. Got {label!r}")
    return Answer(known, label or None)


def normal(answer: Answer, prediction: str) -> Answer:
    """Two ways to say one thing become one: the machine's own class as label is an accept."""
    if answer.kind == "label" and answer.label == prediction:
        return Answer("accept", None, answer.senior)
    return answer


def true_class(answer: Answer, prediction: str) -> str | None:
    """The class a decided item is known to have; None where nobody said."""
    return prediction if answer.kind == "accept" else answer.label


def rule(answers: Sequence[Answer], policy: Policy, level: int) -> Ruling:
    """What the answers, in the order given, amount to.

    At level 0 `policy.agree` equal answers decide; an "unsure", or answers that can no longer
    agree among `policy.of`, escalate. At level 1 the last senior answer decides alone.

    >>> rule([Answer("accept"), Answer("label", "cat")], Policy(agree=2, of=3), 0).state
    'open'
    >>> rule([Answer("accept"), Answer("label", "cat")], Policy(agree=2, of=2), 0).state
    'escalate'
    """
    if level:
        senior = [answer for answer in answers if answer.senior and answer.kind != "unsure"]
        return Ruling("decided", senior[-1]) if senior else Ruling("open")
    if any(answer.kind == "unsure" for answer in answers):
        return Ruling("escalate")
    counts = Counter((answer.kind, answer.label) for answer in answers)
    (kind, label), most = counts.most_common(1)[0] if counts else (("accept", None), 0)
    if most >= policy.agree:
        return Ruling("decided", Answer(kind, label))
    if most + policy.of - len(answers) < policy.agree:
        return Ruling("escalate")
    return Ruling("open")


def due_at(created: float, policy: Policy) -> float:
    """When the item should have been decided."""
    return created + policy.due_s
