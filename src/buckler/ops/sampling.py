"""Rates that are not biased by what was flagged, and reviewers measured on known items.

Only SUSPICIOUS rows are reviewed by themselves, so nothing is learnt of the ACCEPTED ones: a random
share of them is reviewed too, drawn by a keyed hash that a caller can neither foresee nor choose.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass

from buckler.ops.review import Answer, normal
from buckler.stats import Rate, wilson


def draw(secret: bytes, *parts: str) -> float:
    """A number in [0, 1) that only the secret's owner can foresee; the same for the same parts."""
    digest = hmac.digest(secret, "\x1f".join(parts).encode(), "sha256")
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def is_sampled(secret: bytes, key_id: str, request_id: str, row: int, share: float) -> bool:
    """Whether an ACCEPTED row is reviewed all the same. `secret` is the operator's."""
    return draw(secret, "sample", key_id, request_id, str(row)) < share


def is_known_turn(secret: bytes, reviewer: str, answered: int, share: float) -> bool:
    """Whether a reviewer's next item is one whose answer is known; releasing draws no other."""
    return draw(secret, "known", reviewer, str(answered)) < share


def measure(pairs: Iterable[tuple[Answer, Answer, str]]) -> Rate | None:
    """Right / answered on known items, with Wilson's 95 % interval; None before the first.

    Args:
        pairs: (given, truth, the machine's prediction) of each known item that was answered.
    """
    rights = [
        (a.kind, a.label) == (b.kind, b.label)
        for a, b in ((normal(given, p), normal(truth, p)) for given, truth, p in pairs)
    ]
    return wilson(sum(rights), len(rights)) if rights else None


@dataclass(frozen=True)
class Estimate:
    """How often the machine's answer was wrong.

    missed: wrong / reviewed among the ACCEPTED rows drawn at random, Wilson's 95 % interval.
    wrong: the same over all rows, ACCEPTED and SUSPICIOUS, each part weighted by how many there
    were; low and high hold with 95 % (each part's interval at 97.5 %, Bonferroni).
    """

    missed: Rate
    wrong: float
    low: float
    high: float


def estimate(
    accepted: int, sample: tuple[int, int], suspicious: int, flagged: tuple[int, int]
) -> Estimate | None:
    """Rates of wrong answers from the decided items; None while a part that has rows has no
    decision.

    It is unbiased if what was decided is a random part of what was drawn: decide all of a period.

    Args:
        accepted, suspicious: rows with that status.
        sample: (wrong, decided) of the ACCEPTED rows drawn at random.
        flagged: (wrong, decided) of the SUSPICIOUS rows.
    """
    if not sample[1] or not accepted or (suspicious and not flagged[1]):
        return None
    total = accepted + suspicious
    parts = [(accepted / total, wilson(*sample, confidence=0.975))]
    if suspicious:
        parts.append((suspicious / total, wilson(*flagged, confidence=0.975)))
    return Estimate(
        wilson(*sample),
        sum(share * rate.value for share, rate in parts),
        sum(share * rate.low for share, rate in parts),
        sum(share * rate.high for share, rate in parts),
    )
