"""What a person or a program is told: values of plain numbers and words, JSON as they stand."""

from dataclasses import asdict, dataclass
from typing import ClassVar, Final, Literal, Protocol

Status = Literal["ACCEPTED", "SUSPICIOUS"]
IN_PRINT = {"ACCEPTED": "ACCEPTED", "SUSPICIOUS": "SUSPICIOUS - MANUAL REVIEW REQUIRED"}


@dataclass(frozen=True)
class Verdict:
    """The guard's answer for one input.

    prediction is the class name, confidence its probability, anomaly_score the conformal 1 − p of
    the combined score in [0, 1], reasons the scores that stood out most, bundle the digest.
    radius: only of a bundle that answers smoothed: no input within that L2 distance (input units)
    is answered otherwise, with the probability the bundle states; None: no such claim.
    """

    prediction: str
    confidence: float
    anomaly_score: float
    status: Status
    reasons: tuple[str, ...]
    bundle: str
    radius: float | None = None

    def to_dict(self) -> dict[str, object]:
        """Without a radius where none is claimed."""
        return {k: v for k, v in asdict(self).items() if not (k == "radius" and v is None)}

    def __str__(self) -> str:
        why = f" ({', '.join(self.reasons)})" if self.reasons else ""
        far = "" if self.radius is None else f", certified within L2 distance {self.radius:g}"
        return f"{self.prediction} at {self.confidence:.1%}{far}: {IN_PRINT[self.status]}{why}"


STABILITY: Final = "stability"


@dataclass(frozen=True)
class Iso:
    """The property that is proved and the kind of method, as ISO/IEC 24029-2:2023 names them."""

    property: str
    method: str


class Guarantee(Protocol):
    """What every certificate tells; its str is the sentence."""

    iso: ClassVar[Iso]
    assumptions: ClassVar[tuple[str, ...]]

    @property
    def label(self) -> int | None: ...
    @property
    def abstained(self) -> bool: ...
    def to_dict(self) -> dict[str, object]: ...


def in_full(certificate: Guarantee) -> str:
    """The sentence with its assumptions, and what ISO/IEC 24029-2 calls it."""
    iso = certificate.iso
    return (
        f"{certificate}. Assumed: {'; '.join(certificate.assumptions)}. ISO/IEC 24029-2 property: "
        f"{iso.property}; method: {iso.method}."
    )


@dataclass(frozen=True)
class Certificate:
    """A randomized-smoothing certificate for one input.

    With probability at least 1 − alpha over the noise draws, the smoothed classifier answers
    `label` for every input within L2 distance `radius` (input units). label None: it abstained.
    """

    label: int | None
    radius: float
    sigma: float
    alpha: float
    n: int

    iso: ClassVar[Iso] = Iso(
        STABILITY,
        "none of ISO/IEC 24029-2: randomized smoothing is a statistical method "
        "(ISO/IEC TR 24029-1)",
    )
    assumptions: ClassVar[tuple[str, ...]] = (
        "it is about the classifier smoothed with this noise, unclipped, not the model beneath",
        "the model answers the same input alike each time",
        "the draws stand for independent ones",
    )

    @property
    def abstained(self) -> bool:
        return self.label is None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        if self.abstained:
            return f"abstained (sigma {self.sigma:g}, n {self.n}, alpha {self.alpha:g})"
        return (
            f"with probability at least {1 - self.alpha:g} over the noise draws, the classifier "
            f"smoothed with sigma {self.sigma:g} answers {self.label} for every input within "
            f"L2 distance {self.radius:.3f}"
        )


@dataclass(frozen=True)
class BoundCertificate:
    """An L∞ certificate for one input by bounds of layers.

    The model answers `label` for every input within L∞ distance `eps` of x (input units) inside the
    box. label None: not proved, though it may hold.

    Args:
        bounds: the tightest kind that was tried: interval, crown-ibp or crown.
    """

    label: int | None
    eps: float
    box: tuple[float, float]
    bounds: str

    iso: ClassVar[Iso] = Iso(STABILITY, "abstract interpretation (sound, incomplete)")
    assumptions: ClassVar[tuple[str, ...]] = (
        "the model computes its layers in eval mode and nothing else",
        "sums are rounded to nearest, not outwards: margins within 1e-5 of the logits' size are "
        "not certified",
    )

    @property
    def abstained(self) -> bool:
        return self.label is None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        if self.abstained:
            return f"not proved by {self.bounds} bounds (L∞ distance {self.eps:g})"
        low, high = self.box
        return (
            f"the model answers {self.label} for every input within L∞ distance {self.eps:g} "
            f"inside [{low:g}, {high:g}], proved by {self.bounds} bounds"
        )


@dataclass(frozen=True)
class PatchCertificate:
    """A masking certificate for one input.

    For every image that differs from x in one rectangle of `window` (height, width) pixels,
    anywhere or at `place`, the masked classifier answers `label`; with `abstaining` it answers
    `label` or abstains. label None: not proved, or abstained itself.

    Args:
        masks: how many cover every such rectangle.
    """

    label: int | None
    window: tuple[int, int]
    place: tuple[int, int] | None
    masks: int
    abstaining: bool

    iso: ClassVar[Iso] = Iso(
        STABILITY, "none of ISO/IEC 24029-2: every case is computed (sound, incomplete)"
    )
    assumptions: ClassVar[tuple[str, ...]] = (
        "it is about the answer given through these masks, not the model's without them",
        "the model answers the same input alike each time, whatever shares its batch",
        "one axis-aligned rectangle, not larger; what is outside it is unchanged",
    )

    @property
    def abstained(self) -> bool:
        return self.label is None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        tall, broad = self.window
        where = "anywhere" if self.place is None else f"at {self.place}"
        patch = f"a patch of {tall} x {broad} pixels {where}, whatever it shows"
        masks = "1 mask" if self.masks == 1 else f"{self.masks} masks"
        if self.abstained:
            word = "abstained" if self.abstaining else "not proved"
            return f"{word} ({masks} against {patch})"
        answers = f"answers {self.label}{' or abstains' if self.abstaining else ''}"
        return f"the model behind {masks} {answers} under {patch}"


@dataclass(frozen=True)
class TreeCertificate:
    """What was decided about one row of a table and an ensemble of trees.

    The ensemble answers `label` for every row that the threat lets the attacker send instead of x.
    label None: `evadable` by a row that was found, for `spent` of the budget, or else open.
    """

    label: int | None
    threat: str
    evadable: bool
    spent: float | None

    iso: ClassVar[Iso] = Iso(STABILITY, "abstract interpretation (sound, incomplete)")
    assumptions: ClassVar[tuple[str, ...]] = (
        "the spec's types, ranges, directions and prices are true",
        "each column may use the whole budget, and rules are not counted on: a wider box than the "
        "attacker has",
        "sums of leaves may be off by what float32 addition loses, which is allowed for",
    )

    @property
    def abstained(self) -> bool:
        return self.label is None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        if self.evadable:
            return f"evadable within {self.threat}: a row was found that spends {self.spent:.4g}"
        if self.abstained:
            return f"open (neither proved nor evaded within {self.threat})"
        return f"the trees answer {self.label} for every row within {self.threat}"


@dataclass(frozen=True)
class WordCertificate:
    """A masking certificate for one text.

    With probability at least 1 − alpha over the masks, the classifier that votes over masked texts
    answers `label` for every text of as many words that differs from this one in at most `words`
    of them. label None: not proved.

    Args:
        length: of the text, in words.
        kept: words that each vote saw.
        share: of the votes for the answer, from below.
    """

    label: int | None
    words: int
    length: int
    kept: int
    share: float
    alpha: float
    n: int

    iso: ClassVar[Iso] = Iso(
        STABILITY,
        "none of ISO/IEC 24029-2: randomized masking is a statistical method (ISO/IEC TR 24029-1)",
    )
    assumptions: ClassVar[tuple[str, ...]] = (
        "it is about the vote over masked texts, not the model's answer to the whole text",
        "words are replaced one for one: none added, none left out, none moved",
        "the model answers the same masked text alike each time",
        "the draws stand for independent ones",
    )

    @property
    def abstained(self) -> bool:
        return self.label is None

    def to_dict(self) -> dict[str, object]:
        return asdict(self)

    def __str__(self) -> str:
        votes = f"{self.kept} of {self.length} words a vote, n {self.n}, alpha {self.alpha:g}"
        if self.abstained:
            return f"not proved against {self.words} replaced words ({votes})"
        which = "any one word is" if self.words == 1 else f"any {self.words} words are"
        return (
            f"with probability at least {1 - self.alpha:g} over the masks, the vote over masked "
            f"texts answers {self.label} whatever {which} replaced by ({votes})"
        )
