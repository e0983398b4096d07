"""From one bundle to the next: DRAFT → VALIDATING → SHADOW → 10 % → 50 % → 100 % → COMPLETED.

Pure rules: a state, what was observed, the time → a state and what is to be done. Whoever asks may
ask as often as they like. Three things hold in every state before an end: a candidate that is worse
is rolled back; without data nothing is promoted; what proves nothing pauses, and says so.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import exp, log
from typing import Any, Final, Literal, get_args

from buckler.errors import ConflictError, UsageError
from buckler.ops.evidence import Observations, Policy, as_good, too_much, worse

State = Literal[
    "DRAFT",
    "VALIDATING",
    "SHADOW",
    "STEP_10",
    "STEP_50",
    "STEP_100",
    "COMPLETED",
    "PAUSED",
    "ROLLED_BACK",
    "ABORTED",
]
Verb = Literal["pause", "resume", "promote", "rollback", "abort"]
VERBS: Final[tuple[Verb, ...]] = get_args(Verb)
ENDS: Final = ("COMPLETED", "ROLLED_BACK", "ABORTED")
STAGES: Final[tuple[State, ...]] = ("SHADOW", "STEP_10", "STEP_50", "STEP_100")
_NEXT: Final[Mapping[State, State]] = {
    "DRAFT": "VALIDATING",
    "VALIDATING": "SHADOW",
    "SHADOW": "STEP_10",
    "STEP_10": "STEP_50",
    "STEP_50": "STEP_100",
    "STEP_100": "COMPLETED",
}
_WEIGHT: Final[Mapping[State, int]] = {"STEP_10": 10, "STEP_50": 50, "STEP_100": 100}
_LONGEST_S: Final = 60.0  # what may pass between two looks: a clock set forward proves nothing
_UNFAIR: Final = log(1000)
_WHY: Final = {
    "more": "it calls more inputs SUSPICIOUS",
    "fewer": "it calls fewer inputs SUSPICIOUS",
    "missed": "it accepts more of the known attacks",
    "wrong": "it accepts more of the known clean inputs with the wrong class",
}


@dataclass(frozen=True)
class Action:
    """What is to be done, in the transaction that keeps the new state: "load" the candidate beside
    the stable bundle, "weigh": so many per cent of clients go to it, "promote": it is the stable
    one now, "clear": it answers nobody, "alert": tell a person."""

    kind: Literal["load", "weigh", "promote", "clear", "alert"]
    weight: int = 0
    says: str = ""


@dataclass(frozen=True)
class Rollout:
    """Where a rollout stands.

    Args:
        paused: the state that was paused; only in PAUSED.
        reason: why it is PAUSED, or how it ended.
        elapsed: seconds in this state, counted while somebody looked.
        clock: the last time that was told, unix seconds.
        requests, probes: of the candidate when this state began.
        counts: the last ones, which can only grow.
    """

    state: State = "DRAFT"
    paused: State | None = None
    reason: str = ""
    elapsed: float = 0.0
    clock: float | None = None
    requests: int = 0
    probes: int = 0
    counts: tuple[int, ...] = ()

    @property
    def stage(self) -> State:
        """Its state, or the one that was paused."""
        return self.paused or self.state

    @property
    def weight(self) -> int:
        """Per cent of clients that the candidate answers."""
        return 0 if self.state in ENDS else _WEIGHT.get(self.stage, 0)

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Rollout":
        return cls(**{**value, "counts": tuple(value["counts"])})


Step = tuple[Rollout, tuple[Action, ...]]


def advance(rollout: Rollout, seen: Observations, now: float, policy: Policy) -> Step:
    """The state after a look, and what is to be done. An end stays as it is.

    Args:
        now: unix seconds. A clock that goes back stands still; one that leaps counts 60 s.
    """
    if rollout.ended:
        return rollout, ()
    shrunk = any(new < old for new, old in zip(seen.counts, rollout.counts, strict=False))
    rollout = replace(_timed(rollout, now), counts=rollout.counts if shrunk else seen.counts)
    if why := guilty(rollout, seen, policy):
        return _end(rollout, "ROLLED_BACK", why)
    if rollout.state == "PAUSED":
        return rollout, ()
    if shrunk:
        return _pause(rollout, "counters went back: a store was restored, or a gateway lies")
    if rollout.state == "DRAFT":
        return _enter(rollout, "VALIDATING", seen)
    lacks = missing(rollout, seen, policy)
    if seen.report.split >= _UNFAIR:
        return _pause(rollout, "clients do not divide as asked: do not trust these figures")
    if not lacks:
        return _enter(rollout, _NEXT[rollout.state], seen)
    if rollout.elapsed > policy.max_s:
        return _pause(rollout, f"inconclusive: {lacks[0]}")
    return rollout, ()


def guilty(rollout: Rollout, seen: Observations, policy: Policy) -> str:
    """Why the candidate must go; "" if nothing says so."""
    one = seen.report
    if one.refused:
        return f"a gateway cannot serve it: {one.refused}"
    if seen.crashed > policy.crashes and rollout.stage in STAGES:
        return f"{seen.crashed} gateways ended without a word"
    for name, found in worse(one, policy).items():
        if found >= log(1 / policy.alpha):
            return f"{_WHY[name]} (e-value {_short(found)})"
    for name, what in (("errors", "fails too often"), ("slow", "is too slow")):
        if too_much(name, one, policy):
            share = getattr(one.candidate, name) / one.candidate.requests
            return f"it {what}: {share:.1%} of {one.candidate.requests} answers"
    return ""


def missing(rollout: Rollout, seen: Observations, policy: Policy) -> list[str]:
    """What it takes to leave this state, that is not there yet."""
    one = seen.report
    if rollout.state == "VALIDATING":
        ready = seen.gateways > 0 and seen.loaded == seen.gateways
        return [] if ready else [f"loaded by {seen.loaded} of {seen.gateways} gateways"]
    if rollout.state not in STAGES:
        return []
    stage = STAGES.index(rollout.state)
    bars = [
        ("seconds", rollout.elapsed, policy.min_s[stage]),
        ("gateways that have it loaded", seen.loaded, max(1, seen.gateways)),
        ("clients with pairs", one.paired_clients, policy.min_clients),
        ("pairs of clients", one.pairs.n, policy.min_pairs),
        ("golden adversarial rows", one.missed.n, policy.min_golden),
        ("golden clean rows", one.wrong.n, policy.min_golden),
        ("fresh golden probes", one.probes - rollout.probes, min(1, policy.min_golden)),
    ]
    if rollout.weight:
        answered = one.candidate.requests - rollout.requests
        bars.append(("fresh answers of the candidate", answered, policy.min_requests))
    lacks = [f"{name}: {have:.0f} of {need:.0f}" for name, have, need in bars if have < need]
    for name, found in as_good(one, policy).items():
        golden = name in ("missed", "wrong")
        if found < log(1 / policy.beta) and not (golden and not policy.min_golden):
            lacks.append(f"not shown that it is as good within {policy.margin:g} ({name})")
    return lacks


def order(rollout: Rollout, verb: str, who: str, seen: Observations) -> Step:
    """What a person asks for.

    Raises: UsageError for no such verb; ConflictError where it makes no sense in this state.
    """
    if verb not in VERBS:
        raise UsageError(f"a rollout takes {', '.join(VERBS)}. Got {verb!r}")
    if rollout.ended:
        raise ConflictError(f"the rollout has ended ({rollout.state}): start another one")
    if verb == "rollback":
        return _end(rollout, "ROLLED_BACK", f"asked by {who}")
    if verb == "abort":
        return _end(rollout, "ABORTED", f"asked by {who}")
    if verb == "pause":
        if rollout.state == "PAUSED":
            raise ConflictError("the rollout is paused already")
        return _pause(rollout, f"asked by {who}")
    if verb == "resume":
        if rollout.paused is None:
            raise ConflictError(f"only a paused rollout is resumed. Its state is {rollout.state}")
        return _enter(rollout, rollout.paused, seen)
    if rollout.stage not in STAGES or not seen.loaded:
        raise ConflictError(
            "only a candidate that runs beside the stable one is promoted. "
            f"The state is {rollout.state}"
        )
    return _enter(rollout, _NEXT[rollout.stage], seen)


def _timed(rollout: Rollout, now: float) -> Rollout:
    """A clock that was set back goes on from there: no time passed, and none is waited for."""
    passed = 0.0 if rollout.clock is None else min(max(now - rollout.clock, 0.0), _LONGEST_S)
    return replace(rollout, clock=now, elapsed=rollout.elapsed + passed)


def _enter(rollout: Rollout, state: State, seen: Observations) -> Step:
    fresh = Rollout(
        state=state,
        clock=rollout.clock,
        requests=seen.report.candidate.requests,
        probes=seen.report.probes,
        counts=seen.counts,
    )
    if state == "COMPLETED":
        return replace(fresh, reason="every step was passed"), (Action("promote"),)
    if state == "VALIDATING":
        return fresh, (Action("load"),)
    return fresh, (Action("weigh", fresh.weight),)


def _pause(rollout: Rollout, why: str) -> Step:
    paused = replace(rollout, state="PAUSED", paused=rollout.state, reason=why, elapsed=0.0)
    return paused, (Action("alert", says=f"rollout paused: {why}"),)


def _end(rollout: Rollout, state: State, why: str) -> Step:
    ended = replace(rollout, state=state, paused=None, reason=why, elapsed=0.0)
    said = "rolled back" if state == "ROLLED_BACK" else "aborted"
    return ended, (Action("clear"), Action("alert", says=f"rollout {said}: {why}"))


def _short(log_e: float) -> str:
    return f"{exp(min(log_e, 600)):.2g}"
