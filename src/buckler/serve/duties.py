"""What one of all gateways on a store does for all: look after due times, send webhooks."""

import contextlib
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from buckler.errors import StoreDownError
from buckler.serve.observe import Log
from buckler.serve.webhook import NotTakenError, Webhook, send
from buckler.store import leases, outbox
from buckler.store.due import due
from buckler.store.engine import Store
from buckler.store.shared import read_policy

_LEASE: Final = "duties"
_LEASE_S: Final = 60.0
_AT_ONCE: Final = 5
Sending = Callable[[outbox.Message, float], None]


class Duties:
    """A thread that does them, as long as it holds the lease.

    Args:
        webhook: of what happens in the review queue. None: messages stay where they are, until
            retention takes them.
        log: events of what was not taken; None: silent.
        tell: sends an alert, or raises NotTakenError; None: they stay where they are, too.
        rollouts: takes what a rollout has to tell; None: the same.
        every_s: seconds between two rounds.
        clock: unix seconds.
    """

    def __init__(
        self,
        store: Store,
        webhook: Webhook | None,
        log: Log | None,
        tell: Sending | None = None,
        rollouts: Sending | None = None,
        *,
        every_s: float = 5.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._sendings: dict[str, Sending] = {}
        if rollouts is not None:  # before the alerts: they are what becomes of it
            self._sendings["rollout."] = rollouts
        if webhook is not None:
            self._sendings["review."] = lambda message, now: send(webhook, message, now)
        if tell is not None:
            self._sendings["alert."] = tell
        self._log = log
        self._every_s = every_s
        self._clock = clock
        self._holder = secrets.token_hex(8)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.sent = self.failed = 0
        """Webhooks that were taken, and tries that failed."""

    def start(self) -> None:
        self._stop.clear()
        self._thread = threading.Thread(target=self._run, name="buckler-duties", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """After what is in hand, or without it: a message that was not said to be sent is sent
        again."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def round(self) -> bool:
        """False if another gateway holds the lease. Raises: StoreDownError, DataError."""
        if not self._mine():
            return False
        policy = read_policy(self._store)
        while due(self._store, self._clock(), policy) and not self._stop.is_set():
            pass
        for topic, sending in self._sendings.items():
            while messages := outbox.take(self._store, self._clock(), _AT_ONCE, topic):
                for message in messages:
                    if self._stop.is_set() or not self._mine():
                        return True
                    self._send(sending, message)
        return True

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            try:
                self.round()
            except Exception as error:  # whatever it was, the next round may go well
                self._say({"event": "duties", "exc_info": error})
        with contextlib.suppress(StoreDownError):  # it ends by itself
            leases.give(self._store, _LEASE, self._holder, self._clock())

    def _mine(self) -> bool:
        """A message may take long to send: the lease is renewed before each."""
        return leases.take(self._store, _LEASE, self._holder, self._clock(), _LEASE_S) is not None

    def _send(self, sending: Sending, message: outbox.Message) -> None:
        try:
            sending(message, self._clock())
        except NotTakenError as error:
            self.failed += 1
            outbox.failed(self._store, message, self._clock())
            facts = {"kind": message.kind, "message": message.id, "tries": message.tries}
            self._say({"event": "webhook", "error": str(error), **facts})
        else:
            self.sent += 1
            outbox.sent(self._store, message, self._clock())

    def _say(self, event: dict[str, object]) -> None:
        if self._log is not None:
            self._log(event)
