"""What a gateway is made of, put together once: who judges, who keeps, who watches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from buckler.errors import PolicyError, UsageError
from buckler.guard import Guard
from buckler.ops.access import KeyRing
from buckler.serve.arms import Arms, Served
from buckler.serve.body import Intake
from buckler.serve.desk import Desk
from buckler.serve.judged import Judged, checked, join, judging
from buckler.serve.keys import read_keys
from buckler.serve.monitor import MonitorCounts
from buckler.serve.observe import Log, StoreCounts, batch_sizes
from buckler.serve.quota import Quota
from buckler.serve.rolling import follow
from buckler.serve.runner import Limits, Runner
from buckler.serve.settings import HUNG_AFTER_S, Settings
from buckler.serve.stored import Rings, Stored, open_stored
from buckler.serve.streams import Guarded, open_streams
from buckler.serve.walks import WalkWatcher
from buckler.serve.watch import Watch, WatchCounts, Watcher
from buckler.store.engine import Store


@dataclass(frozen=True, eq=False)
class Parts:
    """keys: None: whoever reaches this machine may call. stored, streams: None: there are none."""

    guard: Guard
    settings: Settings
    log: Log | None
    registry: CollectorRegistry
    arms: Arms
    stored: Stored | None
    streams: Guarded | None
    watch: Watch
    quota: Quota
    keys: KeyRing | None = field(repr=False)

    @property
    def not_ready(self) -> str:
        """Why no request should be sent here; "" if they should."""
        return self.arms.not_ready or ("" if self.stored is None else self.stored.not_ready)

    def desk(self) -> Desk:
        settings = self.settings
        return Desk(
            self.arms,
            self.quota,
            settings.deadline_s,
            settings.queue_bytes,
            None if self.stored is None else self.stored.keeper,
            self.watch,
            None if self.streams is None else self.streams.suspects,
        )

    def intake(self) -> Intake:
        return Intake(self.guard.spec, self.settings, self.guard.table)

    def start(self) -> None:
        """Raises: StoreDownError."""
        if self.stored is not None:
            self.stored.start()
        self.watch.start()
        self.arms.start()

    def stop(self) -> None:
        """When nothing new comes: answer what waits, show it, keep it."""
        self.arms.stop()
        self.watch.stop()
        if self.stored is not None:
            self.stored.stop()


def assemble(
    guard: Guard,
    settings: Settings,
    log: Log | None,
    keys: KeyRing | None,
    store: Store | None,
    watchers: Sequence[Watcher],
    bundle: Path | None,
) -> Parts:
    """Arguments and errors as of create_app."""
    _check(guard, settings)
    if keys is None and settings.keys_file is not None:
        keys = read_keys(settings.keys_file)
    registry = CollectorRegistry()
    make = partial(_runner, settings=settings, on_batch=batch_sizes(registry))
    arms = Arms(Served(guard, make(guard)))
    stored = open_stored(settings, log, lambda: arms.guards, store)
    if stored is not None:
        keys = stored.keys if keys is None else Rings((keys, stored.keys))
        registry.register(StoreCounts(stored.recorder, stored.duties))
        registry.register(MonitorCounts(stored.monitor))
        follower = follow(stored.store, arms, bundle, make, settings, log)
        watchers = (*watchers, stored.monitor, follower)
    streams = open_streams(guard.spec, settings, stored, registry, log)
    if streams is not None:
        watchers = (*watchers, streams.watcher)
    if guard.table is not None:
        walkers = WalkWatcher(log)
        registry.register(walkers)
        watchers = (*watchers, walkers)
    watch = Watch(watchers, log)
    registry.register(WatchCounts(watch))
    return Parts(
        guard=guard,
        settings=settings,
        log=log,
        registry=registry,
        arms=arms,
        stored=stored,
        streams=streams,
        watch=watch,
        quota=Quota(1 / settings.workers),
        keys=keys,
    )


def _check(guard: Guard, settings: Settings) -> None:
    if guard.random and not guard.secret:
        raise PolicyError(
            "this bundle's guard draws at random, and whoever knows the secret of its draws can "
            "choose them: set BUCKLER_SECRET"
        )
    if settings.digest is not None and guard.digest != settings.digest:
        raise PolicyError(
            f"the guard's digest must be {settings.digest}. Got {guard.digest or 'none'}: refused"
        )


def _runner(guard: Guard, settings: Settings, on_batch: Callable[[int], None]) -> Runner[Judged]:
    blank = guard.spec.blank()
    row_bytes = blank.nbytes
    if settings.max_rows * row_bytes > settings.queue_bytes:
        raise UsageError(
            f"queue_bytes must hold a request of max_rows ({settings.max_rows}) inputs of "
            f"{row_bytes} bytes each. Got {settings.queue_bytes}"
        )
    judge = judging(guard)
    return Runner(
        lambda x: checked(judge(x)),
        join,
        blank,
        Limits(
            batch_rows=settings.batch_rows,
            queue_rows=settings.queue_rows,
            queue_bytes=settings.queue_bytes,
            hung_after_s=settings.hung_after_s or HUNG_AFTER_S,
            heartbeat_s=settings.heartbeat_s,
            abandonments=settings.abandonments,
        ),
        on_batch,
    )
