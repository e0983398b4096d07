"""Runs of near-equal inputs: every answered input is looked at, off the path, by one thread."""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from pydantic import BaseModel

from buckler.errors import StoreDownError
from buckler.inputs import InputSpec
from buckler.ops.fingerprint import Looks
from buckler.ops.streams import Rule, Streams
from buckler.serve.contract import refusals
from buckler.serve.observe import Log
from buckler.serve.refusal import reply
from buckler.serve.settings import Settings
from buckler.serve.stored import Stored
from buckler.serve.suspects import Suspects, scaled
from buckler.serve.watch import Seen
from buckler.store import suspects as table
from buckler.store.engine import Store
from buckler.store.suspects import Mark

SUSPECTS: Final = "/v1/suspects"
_SHARE_S: Final = 2.0


class StreamWatcher:
    """Looks for runs in what was answered, and tells whoever acts on them.

    Args:
        store: through which gateways tell each other; None: this one acts for itself.
        log: of findings; None: silent.
    """

    def __init__(
        self,
        streams: Streams,
        suspects: Suspects,
        spec: InputSpec,
        store: Store | None,
        log: Log | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._streams, self._suspects, self._spec = streams, suspects, spec
        self._store, self._log, self._clock = store, log, clock
        self._read_at = float("-inf")
        self._untold: list[Mark] = []
        self.alarms: Counter[str] = Counter()
        self.nbytes = self.rows = 0

    def saw(self, seen: Sequence[Seen]) -> None:
        for each in seen:
            for row in scaled(self._spec, each.x):
                for alarm in self._streams.saw(each.key_id, row):
                    self.alarms[alarm.kind] += 1
                    self._tell(self._suspects.mark(alarm))
                self.rows += 1
        self.nbytes = self._streams.nbytes
        self._share()

    def _tell(self, marks: Sequence[Mark]) -> None:
        self._untold += marks
        for mark in marks:
            if self._log is not None:
                facts = {"key": mark.client, "kind": mark.kind, "near": mark.near}
                self._log({"event": "stream", **facts})

    def _share(self) -> None:
        """What is not told now is told later; meanwhile this gateway acts for itself."""
        if self._store is None or not (self._untold or self._clock() - self._read_at >= _SHARE_S):
            return
        try:
            if self._untold:
                table.put(self._store, self._untold, time.time())
                self._untold = []
            self._suspects.take(table.read(self._store, time.time()))
            self._read_at = self._clock()
        except StoreDownError as error:
            self._untold = self._untold[-1024:]
            self._read_at = self._clock()
            if self._log is not None:
                self._log({"event": "stream", "failed": "share", "exc_info": error})


@dataclass(frozen=True)
class Guarded:
    """Who watches, and who is under suspicion."""

    watcher: StreamWatcher
    suspects: Suspects


def open_streams(
    spec: InputSpec,
    settings: Settings,
    stored: Stored | None,
    registry: CollectorRegistry,
    log: Log | None,
) -> Guarded | None:
    """What the settings ask for; None where that is nothing.

    Raises: UsageError for a bundle whose inputs are no images.
    """
    if settings.streams == "off":
        return None
    # Nobody else needs to know it: what is remembered is this process's own.
    looks = Looks(spec.shape, secrets.token_bytes(32))
    rule = Rule()
    suspects = Suspects(spec, looks, rule, settings.streams, settings.streams_hold_s)
    store = None if stored is None else stored.store
    watcher = StreamWatcher(Streams(rule, looks), suspects, spec, store, log)
    registry.register(StreamCounts(watcher, suspects))
    return Guarded(watcher, suspects)


class StreamCounts(Collector):
    """What was seen, and what was done."""

    def __init__(self, watcher: StreamWatcher, suspects: Suspects) -> None:
        self._watcher, self._suspects = watcher, suspects

    def collect(self) -> Iterator[Metric]:
        alarms = CounterMetricFamily(
            "buckler_stream_alarms", "Inputs that showed a run of near-equal ones", labels=("kind",)
        )
        for kind in ("near", "shared", "angles"):
            alarms.add_metric((kind,), self._watcher.alarms[kind])
        yield alarms
        acted = ("buckler_stream_acted", "Rows made SUSPICIOUS or refused for suspicion")
        yield CounterMetricFamily(*acted, self._suspects.acted)
        yield CounterMetricFamily("buckler_stream_rows", "Inputs looked at", self._watcher.rows)
        clients = ("buckler_suspects", "Clients under suspicion", len(self._suspects.all()))
        yield GaugeMetricFamily(*clients)
        held = ("buckler_stream_bytes", "Memory of what was asked", self._watcher.nbytes)
        yield GaugeMetricFamily(*held)


class Listed(BaseModel):
    """A client under suspicion. near: inputs of its longest run when it was seen; since, until:
    unix seconds."""

    client: str
    kinds: tuple[str, ...]
    near: int
    marks: int
    since: float
    until: float


class Listing(BaseModel):
    """policy: what is done about it."""

    policy: str
    suspects: list[Listed]


def add_suspects(app: FastAPI, guarded: Guarded | None) -> None:
    """The route, whether or not anybody watches."""
    answers: dict[int | str, dict[str, Any]] = {200: {"model": Listing}, **refusals(401, 403, 500)}

    @app.get(SUSPECTS, summary="Clients under suspicion", responses=answers)
    async def suspects(request: Request) -> Response:
        if guarded is None:
            return reply(200, {"policy": "off", "suspects": []})
        found = [asdict(suspect) for suspect in guarded.suspects.all()]
        return reply(200, {"policy": guarded.suspects.policy, "suspects": found})
