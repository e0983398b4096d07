"""From what reviewers decided to the counts of `ops.impact`: as if one random sample of all rows
had been reviewed.

SUSPICIOUS rows are nearly all reviewed, ACCEPTED ones rarely, so adding their decisions up would
overstate attacks. The better reviewed kind is thinned, in expectation, to the share of the other
(Horvitz and Thompson 1952 weight instead; a thinned sample keeps k of n, which intervals need, and
they are wider than they had to be, never narrower). It holds if what was decided is a random part
of each kind.
"""

from dataclasses import dataclass

from buckler.errors import UsageError
from buckler.ops.impact import Count, System, unguarded


@dataclass(frozen=True)
class Stratum:
    """Rows of one status: all, decided, and of those adversarial, and adversarial whose prediction
    was wrong."""

    rows: int
    decided: int
    attacks: int
    wrong: int

    def __post_init__(self) -> None:
        if not self.rows >= self.decided >= self.attacks >= self.wrong >= 0:
            raise UsageError(f"a stratum must have rows >= decided >= attacks >= wrong. Got {self}")

    @property
    def share(self) -> float:
        """Decided / all; 1 where there is nothing to decide."""
        return self.decided / self.rows if self.rows else 1.0


@dataclass(frozen=True)
class Sample:
    """prevalence: (attacks, rows of the sample). before: the model alone; after: with its guard."""

    prevalence: Count
    before: System
    after: System


def lacking(suspicious: Stratum, accepted: Stratum) -> list[str]:
    """What keeps the counts from saying anything, a sentence each."""
    said = []
    if not suspicious.rows + accepted.rows:
        said.append("no row was answered")
    if accepted.rows and not accepted.decided:
        said.append("no ACCEPTED row was reviewed: draw some at random (accepted_sample)")
    if suspicious.rows and not suspicious.decided:
        said.append("no SUSPICIOUS row was decided")
    if not said and not suspicious.attacks + accepted.attacks:
        said.append("no attack was confirmed, so nothing tells how many are missed")
    return said


def as_sample(suspicious: Stratum, accepted: Stratum) -> Sample | None:
    """None where `lacking` says why, or the attacks are too few to be left after thinning."""
    if lacking(suspicious, accepted):
        return None
    share = min(suspicious.share, accepted.share)

    def thin(count: int, stratum: Stratum) -> int:
        return round(count * share / stratum.share)

    caught, caught_wrong = thin(suspicious.attacks, suspicious), thin(suspicious.wrong, suspicious)
    passed, missed = thin(accepted.attacks, accepted), thin(accepted.wrong, accepted)
    flagged = thin(suspicious.decided - suspicious.attacks, suspicious)
    clean = flagged + thin(accepted.decided - accepted.attacks, accepted)
    attacks = caught + passed
    if not attacks or not clean:
        return None
    return Sample(
        (attacks, attacks + clean),
        unguarded((caught_wrong + missed, attacks)),
        System("the guard", (missed, attacks), (caught, attacks), (flagged, clean)),
    )
