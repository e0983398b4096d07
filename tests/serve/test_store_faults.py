"""A real gateway on a real store: killed, stopped, its database gone, its disk full."""

import asyncio
import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from benchmarks.gateway_load import Link, post
from buckler.store import care
from buckler.store.engine import open_store
from buckler.store.tables import decisions, events
from tests.store.conftest import Postgres, postgres  # noqa: F401

from .bundles import untrained
from .crowd import Crowd, check, odd
from .process import gateway
from .stored import new_key, rows, url_in
from .test_drain import load
from .tiny import BLANK, CLASSIFY, LEFT, body, wait_for

CLIENTS = 12


async def asks(host: str, port: int, crowd: Crowd) -> None:
    """Until the gateway is gone."""
    link = await Link.to(host, port)
    with contextlib.suppress(OSError):
        while True:
            crowd.heard(await link.ask(crowd.request()))
    link.close()


async def decides(host: str, port: int, key: str, said: list[tuple[str, str]]) -> None:
    """A reviewer, until the gateway is gone: (item, decision) of each that was acknowledged."""
    link = await Link.to(host, port)
    headers = {"x-api-key": key}

    async def send(path: str, value: object) -> tuple[int, dict[str, object]]:
        content = json.dumps(value).encode()
        answer = await link.ask(post(path, content, "application/json", headers))
        return answer.status, json.loads(answer.body or b"{}")

    with contextlib.suppress(OSError, KeyError):
        while True:
            status, item = await send("/v1/reviews/next", {})
            if status == 200:
                given = {"lease_id": item["lease_id"], "version": item["version"]}
                path = f"/v1/reviews/{item['id']}/decision"
                status, done = await send(path, {**given, "kind": "accept"})
                assert status == 200, done
                said.append((str(item["id"]), str(done["id"])))
            await asyncio.sleep(0.01)
    link.close()


def killed(
    process: subprocess.Popen[str], host: str, port: int, crowd: Crowd, seconds: float
) -> tuple[list[tuple[str, str]], float]:
    """What was decided, and requests a second, until kill -9."""
    said: list[tuple[str, str]] = []

    async def run() -> float:
        tasks = [asyncio.create_task(asks(host, port, crowd)) for _ in range(CLIENTS)]
        tasks.append(asyncio.create_task(decides(host, port, crowd.key, said)))
        before, start = crowd.answered, time.monotonic()
        await asyncio.sleep(seconds)
        process.kill()
        rate = (crowd.answered - before) / (time.monotonic() - start)
        await asyncio.gather(*tasks)
        return rate

    rate = asyncio.run(run())
    assert process.wait(30) == -9
    return said, rate


def hammered(url: str, folder: Path, rounds: int, seconds: float) -> float:
    """The best round's requests a second, 40 % of which have a SUSPICIOUS row."""
    store = open_store(url, str(folder / "blobs"))
    crowd = Crowd(new_key(store), "run")
    chosen = {"store": url, "inputs": str(folder / "blobs")}
    said: list[tuple[str, str]] = []
    rates = []
    for number in range(rounds):
        with gateway(folder / f"log{number}", tiny=True, settings=chosen) as (process, host, port):
            more, rate = killed(process, host, port, crowd, seconds)
        said += more
        rates.append(rate)
        check(store, crowd)
        made = {row["review_id"]: row["id"] for row in rows(store, decisions)}
        assert all(made[item] == decision for item, decision in said)
    assert said
    assert len(crowd.acknowledged) > 5 * rounds
    store.close()
    return max(rates)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_twenty_kills_under_load_lose_nothing_acknowledged(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    url = url_in(tmp_path)
    if engine == "postgresql":
        url = request.getfixturevalue("postgres").new_url()
    rate = hammered(url, tmp_path, 20, 2.0)
    assert rate >= 200, f"{rate:.0f} requests/s is no load"


def test_sigterm_under_load_fails_nobody_and_keeps_all(tmp_path: Path) -> None:
    store = open_store(url_in(tmp_path))
    crowd = Crowd(new_key(store), "run")
    given = {"tiny": True, "settings": {"store": url_in(tmp_path)}}
    with gateway(tmp_path / "log", **given) as (process, host, port):
        found = asyncio.run(load(process, host, port, crowd.request, crowd.heard))
        assert process.wait(30) == 0
    assert set(found) == {"200", "closing", "after"}, found
    assert len(crowd.acknowledged) > 0.3 * found["200"] > 15
    check(store, crowd)
    # What is off the path was flushed, too: one event a request.
    kept = [row["suspicious"] for row in rows(store, events)]
    assert (len(kept), sum(kept)) == (found["200"], len(crowd.acknowledged))
    assert "Traceback" not in (tmp_path / "log").read_text()
    store.close()


@pytest.mark.slow
def test_two_processes_keep_what_both_were_sent(tmp_path: Path) -> None:
    untrained(tmp_path / "bundle")
    store = open_store(url_in(tmp_path))
    headers = {"x-api-key": new_key(store)}
    sent = post(CLASSIFY, json.dumps(body(LEFT)).encode(), "application/json", headers)
    chosen = {"store": url_in(tmp_path), "workers": 2}
    given = {"bundle": str(tmp_path / "bundle"), "settings": chosen}
    with gateway(tmp_path / "log", **given) as (process, host, port):
        found = asyncio.run(load(process, host, port, lambda: sent))
        assert process.wait(30) == 0
    assert set(found) == {"200", "closing", "after"}, found
    assert len(rows(store, events)) == found["200"]
    assert care.check(store) == ()
    store.close()


def test_a_database_that_goes_and_comes_back(tmp_path: Path, postgres: Postgres) -> None:  # noqa: F811
    url, inputs = postgres.new_url(), str(tmp_path / "blobs")
    store = open_store(url, inputs)
    key = {"x-api-key": new_key(store)}
    given = {"tiny": True, "settings": {"store": url, "inputs": inputs, "deadline_s": 4}}
    with gateway(tmp_path / "log", **given) as (_, host, port):
        at = f"http://{host}:{port}"

        def ask(image: object) -> httpx.Response:
            return httpx.post(at + CLASSIFY, json=body(image), headers=key, timeout=30)  # type: ignore[arg-type]

        def ready() -> int:
            return httpx.get(f"{at}/v2/health/ready").status_code

        first = ask(BLANK).json()["verdicts"][0]["review_id"]
        postgres.stop()
        try:
            assert ask(BLANK).status_code == 503
            assert ask(LEFT).status_code == 200
            assert ready() == 503
            down = httpx.post(f"{at}/v1/reviews/next", headers=key, timeout=30)
            assert down.status_code in (503, 504)
        finally:
            postgres.start()
        wait_for(lambda: ready() == 200)
        last = ask(odd(1)).json()["verdicts"][0]["review_id"]
        assert len({first, last}) == 2
        taken = httpx.post(f"{at}/v1/reviews/next", headers=key, timeout=30)
        assert taken.json()["id"] in (first, last)
    store.close()


@contextmanager
def small_disk(at: Path) -> Iterator[Path]:
    """A disk of 1 MiB, where one can be had."""
    at.mkdir()
    size = "size=1m"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", at], capture_output=True)
    if done.returncode:
        pytest.skip("no disk can be mounted here")
    try:
        yield at
    finally:
        subprocess.run(["umount", "-l", at], check=True)


def test_a_disk_that_is_full_and_then_is_not(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        url = f"sqlite:///{tmp_path}/store.db"
        store = open_store(url, str(disk / "blobs"))
        crowd = Crowd(new_key(store), "run")
        (disk / "filler").write_bytes(b"x" * 100_000)
        chosen = {"store": url, "inputs": str(disk / "blobs")}
        with (
            gateway(tmp_path / "log", tiny=True, settings=chosen) as (_, host, port),
            httpx.Client(base_url=f"http://{host}:{port}", timeout=30) as client,
        ):

            def ask(number: int) -> int:
                headers = {"x-api-key": crowd.key, "x-request-id": f"run.{number}"}
                found = client.post(CLASSIFY, json=body(LEFT, odd(number)), headers=headers)
                if found.status_code == 200:
                    name = found.json()["verdicts"][1]["review_id"]
                    crowd.acknowledged[f"run.{number}"] = name
                return found.status_code

            number = 0
            while ask(number) == 200:
                number += 1
                assert number < 2000, "it never was full"
            assert number > 5
            assert ask(number) == 503
            assert client.get("/v2/health/ready").status_code == 503
            check(store, crowd)
            (disk / "filler").unlink()
            wait_for(lambda: client.get("/v2/health/ready").status_code == 200)
            assert ask(number) == 200
            check(store, crowd)
        store.close()
