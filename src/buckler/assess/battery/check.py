"""What one check found, and what all of them say of an evaluation together."""

from dataclasses import asdict, dataclass, replace
from typing import Literal

Mark = Literal["pass", "warn", "fail", "does not apply"]
Verdict = Literal["PASS", "WARN", "FAIL"]

ARRIVES = "Does a gradient arrive?"
TRUE = "Is it true?"
CONVERGED = "Did the attack converge?"
OTHERS = "Does another attacker do better?"
CHANCE = "Is chance handled?"
DEPLOYED = "Was the deployed thing attacked?"
REPORT = "Does the report keep its rules?"
QUESTIONS = (ARRIVES, TRUE, CONVERGED, OTHERS, CHANCE, DEPLOYED)

DECISIVE = frozenset({1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 20, 23})
"""Checks that may fail, and with them the evaluation; the others warn."""
_OWED = frozenset(range(1, 27))  # a warning of these owes an adaptive rerun


@dataclass(frozen=True)
class Check:
    """One check: its number in the list of 28, what was measured, against what, and the mark.

    value: None where nothing was measured.
    evidence: one sentence for people: the counts behind the mark, or why it does not apply.
    """

    number: int
    name: str
    question: str
    value: float | None
    threshold: str
    mark: Mark
    evidence: str

    def __post_init__(self) -> None:
        assert self.mark != "fail" or self.number in DECISIVE, self


def absent(number: int, name: str, question: str, why: str) -> Check:
    """The check does not apply; `why` says so in one sentence."""
    return Check(number, name, question, None, "", "does not apply", why)


@dataclass(frozen=True)
class Naive:
    """The test that is often proposed, as a baseline: it errs in both directions.

    value: mean L2 norm of the gradient of the batch's mean cross entropy; batch: rows of one.
    """

    value: float
    limit: float
    batch: int

    @property
    def masked(self) -> bool:
        return self.value < self.limit


@dataclass(frozen=True)
class Battery:
    """All checks on n rows of one target. The verdict is on the evaluation, not on the model.

    PASS; WARN: no figure is to be published before the warned-of is attacked adaptively; FAIL: the
    robust accuracy of this evaluation is not to be believed.
    """

    n: int
    checks: tuple[Check, ...]
    naive: Naive | None
    seconds: float

    @property
    def verdict(self) -> Verdict:
        if any(check.mark == "fail" for check in self.checks):
            return "FAIL"
        owed = (check.mark == "warn" and check.number in _OWED for check in self.checks)
        return "WARN" if any(owed) else "PASS"

    @property
    def believable(self) -> bool:
        return self.verdict != "FAIL"

    @property
    def sentence(self) -> str:
        """The verdict in words, with the evidence of the checks behind it."""
        if self.verdict == "FAIL":
            return f"Do not believe this evaluation: {self._why('fail')}."
        if self.verdict == "WARN":
            return f"An adaptive rerun is owed: {self._why('warn')}."
        return "No sign that the attacks were misled."

    def _why(self, mark: Mark) -> str:
        found = (check for check in self.checks if check.mark == mark and check.number in _OWED)
        return "; ".join(f"{check.name} ({check.evidence})" for check in found)

    def adding(self, more: tuple[Check, ...]) -> "Battery":
        """The same with more checks: the rules of the report, once there is one."""
        return replace(self, checks=(*self.checks, *more))

    def to_dict(self) -> dict[str, object]:
        naive = self.naive
        return {
            "schema": "buckler.battery/2",
            "n": self.n,
            "verdict": self.verdict,
            "believable": self.believable,
            "sentence": self.sentence,
            "questions": [
                {"question": asked, "checks": [asdict(c) for c in found]}
                for asked in (*QUESTIONS, REPORT)
                if (found := [c for c in self.checks if c.question == asked])
            ],
            "naive": None if naive is None else {**asdict(naive), "masked": naive.masked},
            "seconds": round(self.seconds, 2),
        }
