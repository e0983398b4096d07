"""Rollouts: each step is one transaction of state, live pointer, audit and message, or is none."""

import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from buckler.errors import ConflictError, UsageError
from buckler.ops.evidence import Observations, Policy, Report, merge
from buckler.ops.rollout import Action, Rollout, advance, order
from buckler.ops.standing import standing
from buckler.store import audit, outbox
from buckler.store.engine import Store
from buckler.store.intake import insert_new
from buckler.store.live import live_in, point
from buckler.store.operating import rollout_reports, rollouts
from buckler.store.tables import settings

_SECRET: Final = "rollout secret"


@dataclass(frozen=True)
class Kept:
    """A rollout as the store has it. stable, candidate: digests; path: the candidate's folder."""

    id: str
    created: float
    actor: str
    stable: str
    candidate: str
    path: str
    version: int
    rollout: Rollout
    policy: Policy

    def to_dict(self) -> dict[str, Any]:
        """For people and programs. state and reason stand on top."""
        rollout = self.rollout
        return {
            "id": self.id,
            "state": rollout.state,
            "paused": rollout.paused,
            "reason": rollout.reason,
            "weight": rollout.weight,
            "stable": self.stable,
            "candidate": self.candidate,
            "path": self.path,
            "created": self.created,
            "by": self.actor,
            "elapsed_s": rollout.elapsed,
            "version": self.version,
            "policy": asdict(self.policy),
        }


@dataclass(frozen=True)
class Reported:
    """A gateway's last report, with its count of beats; closed: it said that it ends."""

    gateway: str
    beat: int
    closed: bool
    report: Report


Observe = Callable[[Sequence[Reported]], Observations]


def start(store: Store, candidate: str, path: Path, policy: Policy, now: float, actor: str) -> Kept:
    """A rollout in DRAFT, from the bundle that is live to this one, which was checked.

    Raises: ConflictError while another one runs; UsageError if no gateway has told what is live, or
        the candidate is live already.
    """
    with store.write() as connection:
        live = live_in(connection)
        if live is None:
            raise UsageError(
                "no gateway on this store has told which bundle is live: start one with "
                "buckler serve BUNDLE --store, then the rollout"
            )
        if live.digest == candidate:
            raise UsageError(f"the bundle {candidate[:12]} is live already")
        made = secrets.token_hex(16)
        row = {
            "id": made,
            "created": now,
            "actor": actor,
            "stable": live.digest,
            "candidate": candidate,
            "path": str(path),
            "state": "DRAFT",
            "value": Rollout().to_dict(),
            "policy": asdict(policy),
            "version": 1,
            "running": 1,
        }
        if not insert_new(connection, rollouts, [row]):
            raise ConflictError("another rollout runs: wait for its end, or abort it")
        point(connection, now, rollout_id=made)
        facts = {"candidate": candidate, "stable": live.digest, "path": str(path)}
        audit.append(connection, now, actor, "rollout.start", made, facts)
        return _kept(_row(connection, made))


def running(store: Store) -> Kept | None:
    """The one that runs. Raises: StoreDownError."""
    with store.read() as connection:
        found = sa.select(rollouts).where(rollouts.c.running == 1)
        row = connection.execute(found).mappings().one_or_none()
    return None if row is None else _kept(row)


def last(store: Store) -> Kept | None:
    """The one that runs, else the one that was started last."""
    newest = sa.select(rollouts).order_by(
        rollouts.c.running.is_(None), rollouts.c.created.desc(), rollouts.c.id
    )
    with store.read() as connection:
        row = connection.execute(newest.limit(1)).mappings().one_or_none()
    return None if row is None else _kept(row)


def find(store: Store, name: str) -> Kept:
    """Raises: UsageError if there is none of that id."""
    with store.read() as connection:
        return _kept(_row(connection, name))


def history(store: Store, limit: int = 50) -> list[Kept]:
    """Newest first."""
    newest = sa.select(rollouts).order_by(rollouts.c.created.desc(), rollouts.c.id).limit(limit)
    with store.read() as connection:
        return [_kept(row) for row in connection.execute(newest).mappings()]


def report(
    store: Store, name: str, gateway: str, beat: int, seen: Report, *, closed: bool = False
) -> None:
    """Keep what a gateway has seen so far, in place of its report before."""
    key = {"rollout_id": name, "gateway": gateway}
    values = {"beat": beat, "value": seen.to_dict(), "closed": closed}
    with store.write(durable=False) as connection:
        if not insert_new(connection, rollout_reports, [{**key, **values}]):
            mine = sa.update(rollout_reports).where(
                rollout_reports.c.rollout_id == name, rollout_reports.c.gateway == gateway
            )
            connection.execute(mine.values(**values))


def reports(store: Store, name: str) -> list[Reported]:
    with store.read() as connection:
        return _reports(connection, name)


def step(store: Store, name: str, observe: Observe, now: float, actor: str = "rollout") -> Kept:
    """Look once, and do what the rules say. Two who look at once take turns."""

    def rule(kept: Kept, seen: Observations) -> tuple[Rollout, tuple[Action, ...]]:
        return advance(kept.rollout, seen, now, kept.policy)

    return _change(store, name, observe, now, actor, rule, "rollout.{}")


def act(store: Store, name: str, verb: str, observe: Observe, now: float, actor: str) -> Kept:
    """What a person asks for, done now. Raises: UsageError, ConflictError."""

    def rule(kept: Kept, seen: Observations) -> tuple[Rollout, tuple[Action, ...]]:
        return order(kept.rollout, verb, actor, seen)

    return _change(store, name, observe, now, actor, rule, f"rollout.{verb}")


def observe_all(reported: Sequence[Reported]) -> Observations:
    """For who looks only once, and cannot tell who lives: all that did not say that they end."""
    return merge(
        [each.report for each in reported if not each.closed],
        [each.report for each in reported if each.closed],
    )


def status(store: Store, kept: Kept) -> dict[str, Any]:
    """Where it stands, and on what evidence."""
    seen = observe_all(reports(store, kept.id))
    return {**kept.to_dict(), "evidence": standing(kept.rollout, seen, kept.policy)}


def lots(store: Store, now: float) -> bytes:
    """The secret behind every client's lot, made when it is first asked for."""
    row = {"name": _SECRET, "value": secrets.token_hex(32), "at": now}
    with store.write() as connection:
        insert_new(connection, settings, [row])
        mine = sa.select(settings.c.value).where(settings.c.name == _SECRET)
        return hmac.digest(str(connection.scalar(mine)).encode(), b"lots", "sha256")


def _change(
    store: Store,
    name: str,
    observe: Observe,
    now: float,
    actor: str,
    rule: Callable[[Kept, Observations], tuple[Rollout, tuple[Action, ...]]],
    action: str,
) -> Kept:
    with store.write() as connection:
        kept = _kept(_row(connection, name, lock=True))
        after, actions = rule(kept, observe(_reports(connection, name)))
        if after == kept.rollout:
            return kept
        values: dict[str, Any] = {"state": after.state, "value": after.to_dict()}
        if after.ended:
            values["running"] = None
        mine = sa.update(rollouts).where(rollouts.c.id == name, rollouts.c.version == kept.version)
        if not connection.execute(mine.values(version=kept.version + 1, **values)).rowcount:
            raise ConflictError("the rollout was changed meanwhile: look again")
        for each in actions:
            _do(connection, kept, each, now)
        if after.state != kept.rollout.state:
            facts = {"from": kept.rollout.state, "to": after.state, "why": after.reason}
            audit.append(connection, now, actor, action.format(after.state), name, facts)
        return _kept(_row(connection, name))


def _do(connection: sa.Connection, kept: Kept, action: Action, now: float) -> None:
    nobody = {"rollout_id": None, "candidate_digest": None, "candidate_path": None, "weight": 0}
    if action.kind == "load":
        point(connection, now, candidate_digest=kept.candidate, candidate_path=kept.path)
    elif action.kind == "weigh":
        point(connection, now, weight=action.weight)
    elif action.kind == "promote":
        point(connection, now, **{**nobody, "digest": kept.candidate, "path": kept.path})
    elif action.kind == "clear":
        point(connection, now, **nobody)
    else:
        facts = {"rollout": kept.id, "candidate": kept.candidate, "says": action.says}
        outbox.put(connection, now, "rollout.alert", facts)


def _reports(connection: sa.Connection, name: str) -> list[Reported]:
    mine = sa.select(rollout_reports).where(rollout_reports.c.rollout_id == name)
    rows = connection.execute(mine.order_by(rollout_reports.c.gateway)).mappings()
    return [Reported(row["gateway"], row["beat"], row["closed"], _report(row)) for row in rows]


def _report(row: Mapping[Any, Any]) -> Report:
    """Of a gateway of another version, or damaged: it speaks against the candidate, for nothing
    else can be read in it, and must not stand in the way of a rollback."""
    try:
        return Report.from_dict(row["value"])
    except (KeyError, TypeError, AttributeError):
        return Report(refused=f"the report of gateway {row['gateway']} cannot be read")


def _row(connection: sa.Connection, name: str, *, lock: bool = False) -> Mapping[Any, Any]:
    mine = sa.select(rollouts).where(rollouts.c.id == name)
    row = connection.execute(mine.with_for_update() if lock else mine).mappings().one_or_none()
    if row is None:
        raise UsageError(f"there is no rollout {name!r}")
    return row


def _kept(row: Mapping[Any, Any]) -> Kept:
    plain = {k: row[k] for k in ("id", "created", "actor", "stable", "candidate", "path")}
    rollout, policy = Rollout.from_dict(row["value"]), Policy(**row["policy"])
    return Kept(**plain, version=row["version"], rollout=rollout, policy=policy)
