"""The door to training: which reviewed rows enter, and when a retrain is owed.

Who sends inputs and has them reviewed writes part of the next training set, so this is a door for
poison (Barreno et al. 2006, "Can machine learning be secure?"; Steinhardt, Koh and Liang 2017,
arXiv:1706.03691: the harm grows with the share of rows one party controls). What bounds it here:
several reviewers agree on each row, no client makes more than a small share of what is let in, no
class is moved by more than a tenth of itself, and rows nobody reviewed judge the result.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, get_args

from buckler.errors import UsageError
from buckler.ops.flood import is_near
from buckler.stats import sign_test

Why = Literal[
    "no input",
    "corrupted",
    "unsure",
    "no true class",
    "unknown class",
    "too few agree",
    "held-out row",
    "in the data already",
    "near-duplicate",
    "the client's share",
    "the class's share",
]
Barred = Literal["no input", "held-out row", "in the data already"]
REASONS: Final[tuple[Why, ...]] = get_args(Why)
GOLDEN_LOSS: Final = 0.005  # of the golden rows, that a retrain may lose: 0.5 points


@dataclass(frozen=True)
class Door:
    """What a row needs to enter.

    Args:
        agree, of: so many different reviewers named its class, and at most `of` answered.
        client_share: of the rows let in, at most, from one client.
        class_share: new rows (each counted `copies` times) / training rows of the class, at most.
        copies: how often each new row stands in the training set.
        near_bits: fingerprints (64 bits) of one client that differ in so many are one row.
        seed: of the order in which rows are drawn where there are too many.
    """

    agree: int = 2
    of: int = 3
    client_share: float = 0.05
    class_share: float = 0.10
    copies: int = 1
    near_bits: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.agree <= self.of:
            raise UsageError(
                f"agree must be 1 or more and at most of. Got {self.agree} of {self.of}"
            )
        if not (0 < self.client_share <= 1 and 0 < self.class_share <= 1):
            raise UsageError(
                "client_share and class_share must lie in (0, 1]. "
                f"Got {self.client_share:g} and {self.class_share:g}"
            )
        if self.copies < 1 or not 0 <= self.near_bits < 64:
            raise UsageError(
                "copies must be 1 or more and near_bits 0 to 63. "
                f"Got {self.copies} and {self.near_bits}"
            )


@dataclass(frozen=True)
class Said:
    """One reviewer's standing answer: the class they named, None where they named none."""

    reviewer: str
    label: str | None


@dataclass(frozen=True)
class Row:
    """A reviewed row at the door.

    outcome: accept, label, adversarial, corrupted or unsure. label: its true class by the
    reviewers. fingerprint: of ops.flood. barred: what the data already hold against it.
    """

    id: str
    client: str
    outcome: str
    label: str | None
    said: tuple[Said, ...]
    fingerprint: str
    barred: Barred | None = None


@dataclass(frozen=True)
class Intake:
    """What came of it: ids let in, in the order drawn, and why each other row was turned away."""

    entered: tuple[str, ...]
    turned_away: Mapping[str, Why]

    def reasons(self) -> dict[str, int]:
        """Rows turned away a reason, as the rules go."""
        counts = Counter(self.turned_away.values())
        return {why: counts[why] for why in REASONS if counts[why]}


def admit(rows: Sequence[Row], classes: Mapping[str, int], door: Door) -> Intake:
    """Which rows enter the fit split.

    Rows are drawn in an order set by the seed and their ids alone: who else stands at the door, or
    when they came, gives no row a better place. The client's share is of the rows let in, not of
    those that ask: a client that sends more would raise its own limit. So it needs 1 / client_share
    clients at least, or nothing enters.

    Args:
        classes: rows of the fit split a class.
    """
    away: dict[str, Why] = {}
    order = sorted(rows, key=lambda row: _place(door.seed, row.id))
    asking: list[Row] = []
    seen: dict[str, list[str]] = {}
    for row in order:
        why = _refused(row, classes, door)
        if why is None:
            mine = seen.setdefault(row.client, [])
            if any(is_near(row.fingerprint, other, door.near_bits) for other in mine):
                why = "near-duplicate"
            else:
                mine.append(row.fingerprint)
                asking.append(row)
        if why is not None:
            away[row.id] = why
    entered, over = _within_shares(asking, classes, door)
    return Intake(tuple(entered), {**away, **over})


def _refused(row: Row, classes: Mapping[str, int], door: Door) -> Why | None:
    """What a row lacks by itself."""
    if row.outcome == "corrupted":
        return "corrupted"
    if row.outcome == "unsure":
        return "unsure"
    if row.label is None:
        return "no true class"
    if row.barred == "no input":
        return "no input"
    if row.label not in classes:
        return "unknown class"
    agreeing = {each.reviewer for each in row.said if each.label == row.label}
    if len(agreeing) < door.agree or len({each.reviewer for each in row.said}) > door.of:
        return "too few agree"
    return row.barred


def _within_shares(
    asking: Sequence[Row], classes: Mapping[str, int], door: Door
) -> tuple[list[str], dict[str, Why]]:
    """The rows that stay under both shares, and why the others do not.

    The most a client may send depends on how many rows enter in all, which depends on it: it falls
    until the two agree.
    """
    most = int(door.client_share * len(asking) + 1e-9)
    while True:
        entered, over = _drawn(asking, classes, door, most)
        allowed = int(door.client_share * len(entered) + 1e-9)
        if most <= allowed:
            return entered, over
        most = allowed


def _drawn(
    asking: Sequence[Row], classes: Mapping[str, int], door: Door, most: int
) -> tuple[list[str], dict[str, Why]]:
    """The rows in the order given, as long as their client has sent fewer than `most` and their
    class has room."""
    clients: Counter[str] = Counter()
    filled: Counter[str] = Counter()
    entered: list[str] = []
    over: dict[str, Why] = {}
    for row in asking:
        label = str(row.label)
        if (filled[label] + 1) * door.copies > door.class_share * classes[label] + 1e-9:
            over[row.id] = "the class's share"
        elif clients[row.client] >= most:
            over[row.id] = "the client's share"
        else:
            clients[row.client] += 1
            filled[label] += 1
            entered.append(row.id)
    return entered, over


def _place(seed: int, name: str) -> bytes:
    return blake2b(f"{seed}\x1f{name}".encode(), digest_size=16).digest()


@dataclass(frozen=True)
class GoldenLoss:
    """One set of rows before and after: lost, right before alone; won, right after alone.

    p: of so many losses or more, were both equally good (McNemar's exact test): what tells bad luck
    from harm. The rule does not ask it.
    """

    n: int
    lost: int
    won: int
    p: float

    @property
    def share(self) -> float:
        """Rows lost, those won taken off / all."""
        return (self.lost - self.won) / self.n if self.n else 0.0

    @property
    def refused(self) -> bool:
        return self.lost - self.won > GOLDEN_LOSS * self.n + 1e-9


def golden_loss(before: Sequence[bool], after: Sequence[bool]) -> GoldenLoss:
    """The loss on the same rows. Raises: UsageError if the two are not of the same rows."""
    if len(before) != len(after):
        raise UsageError(f"before and after must be of the same rows: {len(before)}, {len(after)}")
    lost = sum(b and not a for b, a in zip(before, after, strict=True))
    won = sum(a and not b for b, a in zip(before, after, strict=True))
    return GoldenLoss(len(before), lost, won, sign_test(won, lost))
