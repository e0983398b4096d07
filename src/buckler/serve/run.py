"""Serving: bind, load, warm up, answer until told to stop, drain."""

import math
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import uvicorn
from fastapi import FastAPI

from buckler.errors import BucklerError
from buckler.guard import Guard, load_bundle
from buckler.guard.bundle import OWN_FACTORIES
from buckler.ops.access import KeyRing
from buckler.serve.app import create_app
from buckler.serve.candidate import warm_up
from buckler.serve.connection import connection
from buckler.serve.listen import listen, refuse_new, url_of
from buckler.serve.rolling import live_bundle
from buckler.serve.settings import HUNG_AFTER_S, Settings
from buckler.serve.workers import supervise

_LINGER_S = 1.0
_SLOWER = 20  # times a full batch's time at the start: no longer slow, but hung


def serve(
    bundle: Path,
    settings: Settings,
    on_ready: Callable[[str], None] | None = None,
    *,
    log: bool = True,
) -> None:
    """Answer from `bundle` until SIGTERM or SIGINT, then finish what runs. Main thread only.

    Args:
        on_ready: called with the URL once requests are accepted.
        log: one line of JSON a request, to stderr.

    Raises: UsageError for a port in use; PolicyError for an open host without keys, another digest
        than asked or a factory not listed; BundleError for a bundle that is broken; BucklerError
        for a guard that hung or died too often.
    """
    if settings.workers > 1:
        with listen(settings, keys=settings.keyed) as shared, signals() as caught:
            child = (serve_one, (bundle, settings, shared, log))
            supervise(
                child, settings.workers, lambda: on_ready and on_ready(url_of(shared)), caught
            )
        return
    serve_one(bundle, settings, None, log, on_ready)


def serve_one(
    bundle: Path,
    settings: Settings,
    listener: socket.socket | None,
    log: bool,
    on_ready: Callable[[str], None] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> None:
    """`serve` in this process, on a listener that others may share, as long as it is `wanted`."""
    gateway = Background(bundle, settings, log=log, listener=listener)
    # A second SIGTERM changes nothing (a supervisor may send one to the group and one to each);
    # a second Ctrl-C ends the process at once.
    with signals(signal.SIGTERM) as told, gateway as url:
        with signals(signal.SIGINT) as interrupted:
            if on_ready is not None:
                on_ready(url)
            while gateway.running and not gateway.broken:
                if told or interrupted or not wanted():
                    break
                time.sleep(0.05)
        asked = bool(told or interrupted or not wanted())
    if not asked:
        why = "the guard hung or died too often" if gateway.broken else "it stopped by itself"
        raise BucklerError(f"the gateway ended, {why}: what it wrote to stderr says more")


class Background:
    """The gateway in a thread of this process: `with Background(guard, settings) as url:`.

    Args:
        keys: who may call; those of settings.keys_file if not given.
        listener: one that others share and close; its own if not given.
    """

    def __init__(
        self,
        source: Guard | Path,
        settings: Settings,
        *,
        log: bool = True,
        keys: KeyRing | None = None,
        listener: socket.socket | None = None,
    ) -> None:
        self._source = source
        self._settings = settings
        self._log = log
        self._keys = keys
        self._shared = listener

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def broken(self) -> bool:
        """Its guard hung or died too often: only a new process helps."""
        return bool(self.app.state.runner.broken)

    def __enter__(self) -> str:
        keys = self._keys is not None or self._settings.keyed
        self._listener = self._shared or listen(self._settings, keys=keys)
        try:
            guard, place = self._load()
            settings = _timed(self._settings, warm_up(guard, self._settings.batch_rows))
            self.app = create_app(guard, settings, log=self._log, keys=self._keys, bundle=place)
            self._server = uvicorn.Server(_config(self.app, settings, self._log))
            self._thread = threading.Thread(
                target=self._server.run,
                args=([self._listener],),
                name="buckler-gateway",
                daemon=True,
            )
            self._thread.start()
            while not self._server.started and self.running:
                time.sleep(0.005)
            if not self._server.started:
                raise BucklerError("the gateway did not start: what it wrote to stderr says why")
        except BaseException:
            self._listener.close()
            raise
        return url_of(self._listener)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Not ready; serve on for a while; take no more connections; finish; end."""
        # From here each answer says that it is its connection's last.
        self.app.state.runner.drain()
        if not self.broken and self.running:
            time.sleep(self._settings.drain_delay_s)
            refuse_new(self._listener)
            end = time.monotonic() + _LINGER_S
            # A request may be on its way over a connection that is idle here.
            while self._server.server_state.connections and time.monotonic() < end:
                time.sleep(0.005)
        self._server.should_exit = True
        self._thread.join(2 * _finish_s(self._settings))

    def _load(self) -> tuple[Guard, Path | None]:
        """The guard, and the folder it came from."""
        if not isinstance(self._source, Path):
            return self._source, None
        place = live_bundle(self._source.resolve(), self._settings)
        guard = load_bundle(
            place,
            factories=(*OWN_FACTORIES, *self._settings.factories),
            digest=self._settings.digest,
            secret=self._settings.secret.get_secret_value().encode(),
        )
        return guard, place


@contextmanager
def signals(*numbers: signal.Signals) -> Iterator[list[int]]:
    """Those of `numbers` that came (SIGTERM and SIGINT if none is named).

    A list, since a handler must not wait for a lock.
    """
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in numbers or (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _timed(settings: Settings, full_batch_s: float) -> Settings:
    """The settings with a measure of what is hung, where nobody gave one."""
    if settings.hung_after_s is not None:
        return settings
    return settings.model_copy(update={"hung_after_s": max(HUNG_AFTER_S, _SLOWER * full_batch_s)})


def _finish_s(settings: Settings) -> int:
    """Whole seconds that requests in hand may take to end: none lives past its deadline."""
    return math.ceil(settings.deadline_s) + 1


def _config(app: FastAPI, settings: Settings, log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=connection(settings.head_s, settings.max_connections),
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning" if log else "critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_finish_s(settings),
    )
