"""Real sockets on this machine: start, answer, drain, stop."""

import os
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import torch

from buckler.errors import BucklerError, BundleError, PolicyError, UsageError
from buckler.guard import Guard
from buckler.ops.access import Key, Keys, digest_of, new_key
from buckler.serve import Background, serve
from buckler.serve.judged import Judged
from buckler.serve.listen import listen
from buckler.serve.run import _timed

from .bundles import untrained
from .tiny import (
    BLANK,
    CLASSIFY,
    LEFT,
    RIGHT,
    SPEC,
    Held,
    Scripted,
    accept,
    body,
    settings,
    wait_for,
)

READY = "/v2/health/ready"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An untrained net as a bundle, and its digest."""
    path = tmp_path_factory.mktemp("serve") / "bundle"
    return path, untrained(path)


def test_a_whole_gateway(guard: Guard) -> None:
    with Background(guard, settings(), log=False) as url:
        assert url.startswith("http://127.0.0.1:")
        assert httpx.get(url + READY).json() == {"live": True, "ready": True}
        found = httpx.post(url + CLASSIFY, json=body(LEFT, RIGHT, BLANK)).json()["verdicts"]
        assert [v["status"] for v in found] == ["ACCEPTED", "ACCEPTED", "SUSPICIOUS"]
        png = {"content": SPEC.encode(RIGHT[0]), "headers": {"content-type": "image/png"}}
        assert httpx.post(url + CLASSIFY, **png).json()["verdicts"] == found[1:2]
    with pytest.raises(httpx.ConnectError):
        httpx.get(url + READY)


def test_a_chunked_body_is_cut_off(guard: Guard) -> None:
    with Background(guard, settings(max_body_bytes=10_000), log=False) as url:
        chunks = (b"x" * 1000 for _ in range(50))
        found = httpx.post(url + CLASSIFY, content=chunks, headers={"content-type": "image/png"})
        assert found.status_code == 413
        assert found.json()["error"].startswith("the body may have at most 10000 bytes")


def test_many_callers_each_get_their_own(guard: Guard) -> None:
    with Background(guard, settings(), log=False) as url, httpx.Client() as client:
        images = [LEFT, RIGHT] * 20

        def ask(x: torch.Tensor) -> str:
            answer = client.post(url + CLASSIFY, json=body(x)).json()
            return str(answer["verdicts"][0]["prediction"])

        with ThreadPoolExecutor(8) as callers:
            assert list(callers.map(ask, images)) == ["left", "right"] * 20


def test_answers_leave_without_waiting_for_a_full_packet() -> None:
    # asyncio switches Nagle's algorithm off only where the protocol is named; with it, every
    # answer on a kept connection waits 40 ms for an acknowledgement.
    with listen(settings(), keys=False) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_stopping_answers_who_was_there_first(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Held()
    gateway = Background(guard, settings(), log=False)
    with ThreadPoolExecutor(2) as callers:
        with gateway as url:
            runner = gateway.app.state.runner
            monkeypatch.setattr(runner.stable.runner, "_judge", held)
            answer = callers.submit(httpx.post, url + CLASSIFY, json=body(LEFT), timeout=30)
            assert held.entered.wait(30)

            def let_go_once_not_ready() -> None:
                wait_for(lambda: bool(runner.not_ready))
                held.go.set()

            callers.submit(let_go_once_not_ready)
        assert answer.result(30).status_code == 200
    assert not gateway.running


def test_a_port_in_use(guard: Guard) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(UsageError, match=f"^port {port} on 127.0.0.1 is in use: stop what"),
            Background(guard, settings(port=port), log=False),
        ):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_an_open_host_is_refused(guard: Guard, host: str) -> None:
    with (
        pytest.raises(PolicyError, match=r"^host must be a loopback address.*no keys.*Got"),
        Background(guard, settings(host=host), log=False),
    ):
        pass


def test_an_open_host_needs_keys(guard: Guard) -> None:
    key = new_key()
    ring = Keys([Key("a", "", digest_of(key), frozenset({"infer"}), 1e3, 1e3, None)])
    with Background(guard, settings(host="0.0.0.0"), log=False, keys=ring) as url:
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert httpx.post(url + CLASSIFY, json=body(LEFT)).status_code == 401
        found = httpx.post(url + CLASSIFY, json=body(LEFT), headers={"x-api-key": key})
        assert found.status_code == 200
    with (
        pytest.raises(UsageError, match=r"^host must be an IP address or localhost\. Got 'a b'"),
        Background(guard, settings(host="a b"), log=False, keys=ring),
    ):
        pass


def test_a_hanging_guard_is_told_within_2_s_and_ends_the_process_at_last(guard: Guard) -> None:
    held = Held()
    limits = settings(hung_after_s=0.3, abandonments=0, heartbeat_s=3600)
    gateway = Background(Scripted(held), limits, log=False)  # type: ignore[arg-type]
    held.go.set()  # the warm-up passes
    with gateway as url, ThreadPoolExecutor(1) as callers:
        held.go.clear()
        held.entered.clear()
        assert httpx.get(url + READY).status_code == 200
        answer = callers.submit(httpx.post, url + CLASSIFY, json=body(LEFT), timeout=30)
        assert held.entered.wait(30)
        start = time.monotonic()
        while (ready := httpx.get(url + READY)).status_code == 200:
            assert time.monotonic() - start < 2
        assert ready.json()["error"] == "the gateway is not ready: the guard hung"
        assert answer.result(30).status_code == 503
        assert httpx.post(url + CLASSIFY, json=body(LEFT)).status_code == 503
        assert gateway.broken
        held.go.set()


def test_a_guard_that_hangs_too_often_ends_the_process_with_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    go, calls = threading.Event(), []

    def hangs(x: torch.Tensor) -> Judged:
        calls.append(len(x))
        if len(calls) > 2:  # the warm-up is two
            go.wait(30)
        return accept(x)

    monkeypatch.setattr("buckler.serve.run.load_bundle", lambda *_, **__: Scripted(hangs))
    limits = settings(hung_after_s=0.1, abandonments=1, heartbeat_s=0.02)
    with pytest.raises(BucklerError, match=r"^the gateway ended, the guard hung or died too "):
        serve(Path("none"), limits, log=False)
    assert calls == [1, 256, 1, 1], "one beat, and one of the thread that took over"
    go.set()


def test_what_is_hung_is_measured_where_nobody_said() -> None:
    assert _timed(settings(), 0.001).hung_after_s == 1.5
    assert _timed(settings(), 2.0).hung_after_s == 40.0
    assert _timed(settings(hung_after_s=3), 2.0).hung_after_s == 3


def test_localhost_is_this_machine(guard: Guard) -> None:
    with Background(guard, settings(host="localhost"), log=False) as url:
        assert url.startswith("http://127.0.0.1:")


def test_a_guard_that_cannot_judge_does_not_start(guard: Guard) -> None:
    broken = replace(guard, spec=replace(guard.spec, shape=(1, 9, 9)))
    with (
        pytest.raises(BundleError, match=r"^the guard cannot judge a blank input .*build it anew$"),
        Background(broken, settings(), log=False),
    ):
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_bundle_is_served_until_a_signal(bundle: tuple[Path, str], number: int) -> None:
    path, digest = bundle
    before = signal.getsignal(number)
    found: list[httpx.Response] = []

    def ready(url: str) -> None:
        found.append(httpx.post(url + CLASSIFY, json=body(LEFT)))
        os.kill(os.getpid(), number)

    serve(path, settings(digest=digest), ready, log=False)
    assert found[0].json()["bundle"] == digest
    assert signal.getsignal(number) is before


def test_another_bundle_is_refused(bundle: tuple[Path, str]) -> None:
    with pytest.raises(PolicyError, match=f"the bundle's digest must be {'a' * 64}"):
        serve(bundle[0], settings(digest="a" * 64), log=False)


def test_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: bundle\.toml is missing"):
        serve(tmp_path, settings(), log=False)
