"""A gateway's store, and what runs on it as long as it does: recorder, keys, duties, alarms."""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from buckler.guard import Guard
from buckler.ops.access import Key, KeyRing
from buckler.serve.alerting import raise_rollout, teller_of
from buckler.serve.duties import Duties
from buckler.serve.keep import Keeper
from buckler.serve.monitor import Monitor
from buckler.serve.observe import Log
from buckler.serve.refusal import RefusedError
from buckler.serve.settings import Settings
from buckler.serve.webhook import webhook_of
from buckler.store.engine import Store, open_store
from buckler.store.keys import TableKeys
from buckler.store.recorder import Recorder
from buckler.store.shared import read_policy

T = TypeVar("T")
_READERS: Final = 4
_WAIT_S: Final = 5.0


@dataclass(frozen=True, eq=False)
class Stored:
    """What a gateway with a store has.

    Args:
        fail_closed: with the store down, nothing that must be kept is answered, and the gateway is
            not ready.
        secret: decides which ACCEPTED rows are reviewed, and which items are known ones.
        deadline_s: seconds that who asks the store may wait.
    """

    store: Store
    recorder: Recorder
    keeper: Keeper
    keys: TableKeys
    duties: Duties
    monitor: Monitor
    fail_closed: bool
    deadline_s: float
    secret: bytes = field(repr=False)
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_READERS, "buckler-reviews"), repr=False
    )

    @property
    def not_ready(self) -> str:
        """Why no request should be sent here; "" if they should."""
        return "store" if self.fail_closed and not self.recorder.up else ""

    def start(self) -> None:
        """Raises: StoreDownError."""
        self.keys.start()
        self.recorder.start()
        self.duties.start()
        self.monitor.start()

    def stop(self) -> None:
        """When nothing is answered any more: keep what waits, then close."""
        self.recorder.stop()
        self.monitor.stop()
        self.duties.stop()
        self.keys.stop()
        self.store.close()

    async def ask(self, read: Callable[[], T]) -> T:
        """What `read` gives, on a thread of the few that wait for the store.

        Raises: RefusedError 504 if that takes too long.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self.deadline_s):
                return await loop.run_in_executor(self._threads, read)
        except TimeoutError:
            raise RefusedError(504, "the store did not answer in time: try again", 1) from None


@dataclass(frozen=True)
class Rings:
    """The keys of several rings as one: of a file, and of a store."""

    rings: tuple[KeyRing, ...]

    def find(self, digest: str) -> Key | None:
        found = (ring.find(digest) for ring in self.rings)
        return next((key for key in found if key is not None), None)


def open_stored(
    settings: Settings,
    log: Log | None,
    guards: Callable[[], Sequence[Guard]],
    store: Store | None = None,
) -> Stored | None:
    """What the settings ask for; None where they name no store.

    Args:
        guards: whose alarms it keeps, those that answer now.
        store: one that is open already.

    Raises: UsageError, StoreDownError or DataError if the store cannot be used.
    """
    if store is None:
        if settings.store is None:
            return None
        store = open_store(settings.store.get_secret_value(), settings.inputs)
    # Nobody else needs to know it: where the operator gave none, any will do.
    secret = settings.secret.get_secret_value().encode() or secrets.token_bytes(32)
    recorder = Recorder(
        store,
        read_policy(store),
        on_down=settings.on_store_down,
        wait_s=min(_WAIT_S, settings.deadline_s / 2),
    )
    keys = TableKeys(store)
    keys.refresh()
    teller = teller_of(settings)
    arl = settings.false_alarm_days * settings.rows_per_day
    return Stored(
        store=store,
        recorder=recorder,
        keeper=Keeper(recorder, settings.accepted_sample, secret),
        keys=keys,
        duties=Duties(
            store, webhook_of(settings), log, teller.send, partial(raise_rollout, store, teller)
        ),
        monitor=Monitor(store, guards, arl, teller.telling, log),
        fail_closed=settings.on_store_down == "fail_closed",
        deadline_s=settings.deadline_s,
        secret=secret,
    )
