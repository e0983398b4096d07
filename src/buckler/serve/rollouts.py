"""Rollouts over HTTP: what an operator does, and what Flagger and Argo Rollouts ask."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from buckler.errors import (
    BundleError,
    ConflictError,
    DataError,
    PolicyError,
    StoreDownError,
    UsageError,
)
from buckler.ops.evidence import Policy
from buckler.ops.rollout import VERBS
from buckler.serve import rollout_contract as contract
from buckler.serve.body import Intake
from buckler.serve.candidate import examine
from buckler.serve.refusal import RefusedError, reply
from buckler.serve.review_forms import body
from buckler.serve.stored import Stored
from buckler.store import rollouts
from buckler.store.engine import Store
from buckler.store.live import read_live
from buckler.store.rollouts import Kept

ROLLOUTS: Final = "/v1/rollouts"
_ONE: Final = f"{ROLLOUTS}/{{rollout_id}}"
T = TypeVar("T")


def add_rollouts(app: FastAPI, stored: Stored, intake: Intake, registry: CollectorRegistry) -> None:
    """The routes, each of them in access.ROUTES, and the gauges."""
    api = _Api(stored, intake)
    for method, path, handler, summary, said in (
        ("GET", ROLLOUTS, api.list, "Rollouts, newest first", contract.LIST),
        ("POST", ROLLOUTS, api.start, "Begin a rollout to a bundle", contract.START),
        (
            "POST",
            f"{ROLLOUTS}/hooks/confirm-promotion",
            api.confirm,
            "200 if the bundle may be promoted, for Flagger",
            contract.HOOK,
        ),
        (
            "POST",
            f"{ROLLOUTS}/hooks/rollback",
            api.undone,
            "200 if the bundle was rolled back, for Flagger",
            contract.HOOK,
        ),
        ("GET", _ONE, api.get, "Where a rollout stands", contract.GET),
        ("GET", f"{_ONE}/metrics", api.metrics, "The same in numbers", contract.METRICS),
        ("POST", f"{_ONE}/{{verb}}", api.act, "pause, resume, promote, rollback", contract.ACT),
    ):
        app.api_route(path, methods=[method], summary=summary, **said)(handler)
    registry.register(RolloutGauges(stored.store))


def begin(
    store: Store,
    path: Path,
    now: float,
    actor: str,
    *,
    digest: str | None = None,
    policy: dict[str, Any] | None = None,
) -> Kept:
    """A rollout to the bundle at `path`, if it may be one.

    Raises: UsageError, BundleError, PolicyError, ConflictError.
    """
    unknown = sorted({*(policy or {})} - {*Policy.__dataclass_fields__})
    if unknown:
        allowed = ", ".join(Policy.__dataclass_fields__)
        raise UsageError(f"a rollout's policy takes {allowed}. Got {unknown[0][:60]!r}")
    try:
        rules = Policy(**(policy or {}))
    except TypeError as error:
        raise UsageError(f"a rollout's policy takes numbers: {error}") from None
    live = read_live(store)
    beside = Path(live.path) if live is not None and live.path else None
    found = examine(path, now, rules.ruling_days, beside)
    if digest is not None and digest != found:
        raise PolicyError(f"the bundle's digest must be {digest}. Got {found}: refused")
    return rollouts.start(store, found, path.resolve(), rules, now, actor)


@dataclass(frozen=True)
class _Api:
    stored: Stored
    intake: Intake

    async def list(self, request: Request) -> Response:
        found = await self._ask(lambda: rollouts.history(self.stored.store))
        return reply(200, {"rollouts": [each.to_dict() for each in found]})

    async def start(self, request: Request) -> Response:
        given = body(contract.Start, await self._content(request))
        who = request.state.caller.id

        def make() -> Kept:
            path, now, rules = Path(given.bundle), time.time(), given.policy
            return begin(self.stored.store, path, now, who, digest=given.digest, policy=rules)

        return reply(201, (await self._ask(make)).to_dict())

    async def get(self, request: Request) -> Response:
        store = self.stored.store
        return reply(200, await self._ask(lambda: rollouts.status(store, self._found(request))))

    async def metrics(self, request: Request) -> Response:
        store = self.stored.store
        found = await self._ask(lambda: rollouts.status(store, self._found(request)))
        return reply(200, {"data": numbers(found)})

    async def act(self, request: Request) -> Response:
        verb, who = request.path_params["verb"], request.state.caller.id
        if verb not in VERBS:
            raise RefusedError(404, f"a rollout takes {', '.join(VERBS)}")

        def act() -> Kept:
            name, store = self._found(request).id, self.stored.store
            return rollouts.act(store, name, verb, rollouts.observe_all, time.time(), who)

        return reply(200, (await self._ask(act)).to_dict())

    async def confirm(self, request: Request) -> Response:
        """Flagger waits with the promotion until this says 200."""
        found = await self._asked(request)
        if found["state"] != "COMPLETED":
            raise _no(f"not yet: the rollout is {found['state']}")
        return reply(200, {"state": found["state"]})

    async def undone(self, request: Request) -> Response:
        """Flagger rolls back when this says 200."""
        found = await self._asked(request)
        if found["state"] != "ROLLED_BACK":
            raise _no(f"nothing to roll back: the rollout is {found['state']}")
        return reply(200, {"state": found["state"], "reason": found["reason"]})

    async def _asked(self, request: Request) -> dict[str, Any]:
        """The rollout of the bundle that a hook asks about; without a digest, the last one."""
        digest = body(contract.Hook, await self._content(request)).metadata.get("digest")

        def look() -> dict[str, Any]:
            for each in rollouts.history(self.stored.store):
                if digest in (None, each.candidate):
                    return each.to_dict()
            raise _no("there is no rollout of this bundle")

        return await self._ask(look)

    def _found(self, request: Request) -> Kept:
        name = request.path_params["rollout_id"]
        try:
            found = (
                rollouts.last(self.stored.store)
                if name == "current"
                else rollouts.find(self.stored.store, name)
            )
        except UsageError:
            found = None
        if found is None:
            raise RefusedError(404, "there is no such rollout")
        return found

    async def _content(self, request: Request) -> bytes:
        until = asyncio.get_running_loop().time() + self.stored.deadline_s
        async with self.intake.content(request, until) as content:
            return bytes(content)

    async def _ask(self, read: Callable[[], T]) -> T:
        """What the store says no to, as a refusal."""
        try:
            return await self.stored.ask(read)
        except ConflictError as error:
            raise RefusedError(409, str(error), reason="conflict") from None
        except (UsageError, BundleError, PolicyError) as error:
            raise RefusedError(400, str(error)) from None
        except (StoreDownError, DataError) as error:
            sentence = "the store cannot be used now: try again"
            raise RefusedError(503, sentence, 1, reason="store") from error


def _no(sentence: str) -> RefusedError:
    return RefusedError(409, sentence, reason="conflict")


def numbers(found: dict[str, Any]) -> dict[str, float]:
    """What a metric provider compares: 1 is enough in `worse` (to roll back) and in `as_good`, the
    weakest of the questions (to go on)."""
    evidence, state = found["evidence"], found["state"]
    return {
        "completed": float(state == "COMPLETED"),
        "failed": float(state in ("ROLLED_BACK", "ABORTED")),
        "paused": float(state == "PAUSED"),
        "weight": float(found["weight"]),
        "worse": max(evidence["worse"].values()),
        "as_good": min(evidence["as_good"].values()),
        "pairs": float(evidence["pairs"]["clients"]["n"]),
    }


class RolloutGauges(Collector):
    """The rollout that runs, else the last one."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def describe(self) -> Iterator[Metric]:
        return iter(())  # nothing is read before somebody asks

    def collect(self) -> Iterator[Metric]:
        try:
            last = rollouts.last(self._store)
            found = None if last is None else rollouts.status(self._store, last)
        except (StoreDownError, DataError):
            return
        if found is None:
            return
        labels = {"state": found["state"], "candidate": found["candidate"][:12]}
        state = GaugeMetricFamily("buckler_rollout", "1 in its state", labels=list(labels))
        state.add_metric(list(labels.values()), 1.0)
        yield state
        for name, value in numbers(found).items():
            yield GaugeMetricFamily(f"buckler_rollout_{name}", "Of the rollout: see docs", value)
