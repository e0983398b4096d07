"""Serving: bind, load, warm up, answer until told to stop, drain."""

import errno
import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
import uvicorn
from fastapi import FastAPI

from buckler.errors import BucklerError, BundleError, PolicyError, UsageError
from buckler.guard import Guard, load_bundle
from buckler.guard.bundle import OWN_FACTORIES
from buckler.serve.app import create_app
from buckler.serve.settings import Settings

_GRACE_S = 5
_BACKLOG = 128


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

    Raises: UsageError for a port in use; PolicyError for an open host, another digest than asked
        or a factory not listed; BundleError for a bundle that is broken.
    """
    gateway = Background(bundle, settings, log=log)
    with gateway as url:
        with _signals() as caught:
            if on_ready is not None:
                on_ready(url)
            while not caught and gateway.running:
                time.sleep(0.1)
        # From here a second signal ends the process at once.
        if not caught:
            raise BucklerError("the gateway stopped by itself: what it wrote to stderr says why")


class Background:
    """The gateway in a thread of this process: `with Background(guard, settings) as url:`."""

    def __init__(self, source: Guard | Path, settings: Settings, *, log: bool = True) -> None:
        self._source = source
        self._settings = settings
        self._log = log

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def __enter__(self) -> str:
        listener = _listen(self._settings)
        try:
            guard = self._load()
            _warm_up(guard)
            self._app = create_app(guard, self._settings, log=self._log)
            self._server = uvicorn.Server(_config(self._app, self._log))
            host, port = listener.getsockname()[:2]
            self._thread = threading.Thread(
                target=self._server.run, args=([listener],), name="buckler-gateway", daemon=True
            )
            self._thread.start()
            while not self._server.started and self.running:
                time.sleep(0.005)
            if not self._server.started:
                raise BucklerError("the gateway did not start: what it wrote to stderr says why")
        except BaseException:
            listener.close()
            raise
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Not ready first, so that whoever sends requests looks elsewhere; then finish what runs.
        self._app.state.batcher.drain()
        self._server.should_exit = True
        self._thread.join(2 * _GRACE_S + 1)

    def _load(self) -> Guard:
        if isinstance(self._source, Guard):
            return self._source
        return load_bundle(
            self._source,
            factories=(*OWN_FACTORIES, *self._settings.factories),
            digest=self._settings.digest,
            secret=self._settings.secret.get_secret_value().encode(),
        )


@contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals to stop that came; a list, since a handler must not wait for a lock."""
    caught: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _listen(settings: Settings) -> socket.socket:
    """A socket that listens already: whoever holds it owns the port while the bundle loads."""
    host, port = settings.host, settings.port
    address = _loopback(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # The protocol must be named: asyncio sends without Nagle's 40 ms delay only then.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} on {host} is in use: stop what listens there, or choose another "
                "port (0 takes any free one)"
            ) from None
        why = error.strerror or str(error)
        raise UsageError(
            f"port {port} on {host} cannot be opened ({why}): choose another port (0 takes any "
            "free one)"
        ) from None
    return listener


def _loopback(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        if ipaddress.ip_address(address).is_loopback:
            return address
    except ValueError:
        pass
    raise PolicyError(
        f"host must be a loopback address (127.0.0.1, ::1 or localhost), since the gateway has no "
        f"keys yet and would answer anyone. Got {host!r}: put it behind a proxy that asks for one"
    )


def _warm_up(guard: Guard) -> None:
    """The first answer is slow: give it to nobody. Raises: BundleError if there is none."""
    blank = torch.full((1, *guard.spec.shape), sum(guard.spec.box) / 2)
    try:
        guard.judge(blank)
    except Exception as error:
        raise BundleError(
            f"the guard cannot judge a blank input ({type(error).__name__}: {error}): build it anew"
        ) from error


def _config(app: FastAPI, log: bool) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning" if log else "critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_S,
    )
