"""A client that sends a run is listed, and by policy not accepted or answered rarely; whoever else
comes near it, too; and every gateway on the store knows."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.ops.fingerprint import Looks
from buckler.ops.streams import Alarm, Rule, Streams
from buckler.serve import create_app
from buckler.serve.refusal import RefusedError
from buckler.serve.streams import StreamWatcher
from buckler.serve.suspects import Suspects, suspicious
from buckler.serve.watch import Seen
from buckler.store.engine import Store

from .stored import new_key, opened
from .tiny import BLANK, CLASSIFY, LEFT, SPEC, accept, body, image, settings, tiny_guard, wait_for

RULE = Rule()
LOOKS = Looks(SPEC.shape, b"salt")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def near_left(count: int, seed: int = 0) -> list[Tensor]:
    """Images a little off LEFT, all different, which the tiny guard accepts."""
    draw = torch.Generator().manual_seed(seed)
    return [SPEC.snap(LEFT - 0.1 * torch.rand(LEFT.shape, generator=draw)) for _ in range(count)]


def suspects(policy: str = "suspicious", clock: Clock | None = None, grace: int = 0) -> Suspects:
    clock = clock or Clock()
    return Suspects(SPEC, LOOKS, RULE, policy, 60.0, grace=grace, clock=clock)  # type: ignore[arg-type]


def alarm(*clients: str, x: Tensor = LEFT) -> Alarm:
    return Alarm("near", clients, 14, LOOKS.cells(x.numpy())[0])


def rows(found: Suspects, client: str, x: Tensor) -> list[bool]:
    acted = asyncio.run(found.rows(client, x))
    return [False] * len(x) if acted is None else acted.tolist()


def test_a_gateway_lists_the_client_and_accepts_it_no_more() -> None:
    app = create_app(tiny_guard(), settings(streams="suspicious"), log=False)
    with TestClient(app) as client:
        statuses = []
        for number, x in enumerate(near_left(40), 1):
            (verdict,) = client.post(CLASSIFY, json=body(x)).json()["verdicts"]
            statuses.append(verdict["status"])
            wait_for(lambda n=number: app.state.streams.watcher.rows == n)  # type: ignore[misc]
        assert set(statuses[: RULE.own]) == {"ACCEPTED"}
        assert set(statuses[RULE.own + 9 :]) == {"SUSPICIOUS"}
        (found,) = client.get("/v1/suspects").json()["suspects"]
        assert (found["client"], found["kinds"], found["near"]) == ("local", ["near"], RULE.own)
        page = client.get("/metrics").text
    assert "buckler_suspects 1.0" in page
    assert 'buckler_stream_alarms_total{kind="near"}' in page


def test_flag_changes_no_answer() -> None:
    app = create_app(tiny_guard(), settings(streams="flag"), log=False)
    with TestClient(app) as client:
        for number, x in enumerate(near_left(30), 1):
            (verdict,) = client.post(CLASSIFY, json=body(x)).json()["verdicts"]
            assert verdict["status"] == "ACCEPTED"
            wait_for(lambda n=number: app.state.streams.watcher.rows == n)  # type: ignore[misc]
        assert len(client.get("/v1/suspects").json()["suspects"]) == 1


def test_off_by_default_and_the_list_is_empty() -> None:
    with TestClient(create_app(tiny_guard(), settings(), log=False)) as client:
        assert client.get("/v1/suspects").json() == {"policy": "off", "suspects": []}


def test_a_run_within_one_request_is_not_accepted() -> None:
    app = create_app(tiny_guard(), settings(streams="suspicious"), log=False)
    with TestClient(app) as client:
        images = [*near_left(RULE.own), *[image(right=1.0)] * RULE.own]
        found = client.post(CLASSIFY, json=body(*images)).json()["verdicts"]
    assert [v["status"] for v in found] == ["SUSPICIOUS"] * RULE.own + ["ACCEPTED"] * RULE.own


def test_what_is_near_a_run_is_suspicious_whoever_sends_it() -> None:
    found = suspects()
    found.mark(alarm("a"))
    x = torch.cat([*near_left(2), image(right=1.0)])
    assert rows(found, "a", x) == [True] * 3
    assert rows(found, "b", x) == [True, True, False]
    assert found.acted == 5


def test_it_begins_a_random_number_of_rows_later() -> None:
    begins = set()
    for _ in range(60):
        found = suspects(grace=8)
        found.mark(alarm("a"))
        begins.add(next(n for n in range(20) if rows(found, "a", image(right=1.0))[0]))
    assert begins <= set(range(9))
    assert len(begins) >= 5  # all in fewer: once in 10 ** 10


def test_it_ends_and_what_is_known_is_no_news() -> None:
    clock = Clock()
    found = suspects(clock=clock)
    assert len(found.mark(alarm("a"))) == 1
    assert found.mark(alarm("a")) == []
    (mark,) = found.mark(alarm("b"))
    assert (mark.client, mark.until) == ("b", 1060.0)
    (elsewhere,) = found.mark(alarm("a", x=image(right=1.0)))
    assert elsewhere.client == "a"
    clock.now = 1061.0
    assert found.all() == []
    assert rows(found, "a", LEFT) == [False]


def test_no_client_with_a_part_still_marks_the_place() -> None:
    found = suspects()
    (mark,) = found.mark(alarm())
    assert mark.client == ""
    assert found.all() == []
    assert rows(found, "anyone", LEFT) == [True]


def test_throttle_answers_one_and_says_when_to_come_again() -> None:
    found = suspects("throttle")
    found.mark(alarm("a"))
    assert rows(found, "a", LEFT) == [False]
    with pytest.raises(RefusedError, match="many inputs wait: try again in 5 s") as refused:
        rows(found, "a", LEFT)
    assert refused.value.status == 429
    assert rows(found, "b", image(right=1.0)) == [False]


def test_only_the_status_changes() -> None:
    judged = accept(torch.cat([LEFT, BLANK]))
    changed = suspicious(judged, np.array([True, False]))
    assert [v.status for v in changed.verdicts] == ["SUSPICIOUS", "ACCEPTED"]
    assert judged.verdicts[0].status == "ACCEPTED"
    assert changed.verdicts[0].confidence == judged.verdicts[0].confidence


def watching(store: Store | None, found: Suspects) -> StreamWatcher:
    return StreamWatcher(Streams(RULE, LOOKS), found, SPEC, store, None)


def seen(key: str, *images: Tensor) -> list[Seen]:
    return [Seen(0.0, key, "r", x, accept(x)) for x in images]


def test_gateways_on_a_store_act_on_what_one_of_them_found(store: Store) -> None:
    one, other = (Suspects(SPEC, LOOKS, RULE, "suspicious", 60.0, grace=0) for _ in range(2))
    watching(store, one).saw(seen("a", *near_left(RULE.own)))
    watching(store, other).saw(seen("b", BLANK))
    assert [suspect.client for suspect in other.all()] == ["a"]
    assert rows(other, "c", LEFT) == [True]


def test_a_store_that_is_down_is_told_later(store: Store) -> None:
    own = Suspects(SPEC, LOOKS, RULE, "suspicious", 60.0, grace=0)
    watcher = watching(store, own)
    store.close()
    watcher._store = _Down()  # type: ignore[assignment]
    watcher.saw(seen("a", *near_left(RULE.own)))
    assert [suspect.client for suspect in own.all()] == ["a"], "it acts for itself"
    watcher._store = store
    watcher.saw(seen("b", BLANK))
    other = Suspects(SPEC, LOOKS, RULE, "suspicious", 60.0, grace=0)
    watching(store, other).saw(seen("c", BLANK))
    assert [suspect.client for suspect in other.all()] == ["a"]


class _Down:
    def write(self, **_: object) -> object:
        from buckler.errors import StoreDownError

        raise StoreDownError("down")

    read = write


def test_a_suspicious_row_has_a_review_and_only_operate_reads_the_list(tmp_path: Path) -> None:
    with opened(tmp_path, streams="suspicious") as gateway:
        found, watcher = {}, gateway.app.state.streams.watcher
        for number, x in enumerate(near_left(RULE.own + 10), 1):
            (found,) = gateway.client.post(CLASSIFY, json=body(x)).json()["verdicts"]
            wait_for(lambda n=number: watcher.rows == n)  # type: ignore[misc]
        assert found["status"] == "SUSPICIOUS"
        assert len(found["review_id"]) == 32
        assert new_key(gateway.store, "infer")
        infer = gateway.client.get("/v1/suspects", headers=gateway.with_key("infer"))
        operate = gateway.client.get("/v1/suspects", headers=gateway.with_key("operate"))
    assert (infer.status_code, operate.status_code) == (403, 200)
    assert len(operate.json()["suspects"]) == 1


def test_rows_of_features_are_refused_at_the_start() -> None:
    spec = InputSpec((30,), ("a", "b"))
    with pytest.raises(UsageError, match="among images"):
        Looks(spec.shape, b"salt")
