"""A gateway that watches its own answers: what it saw becomes alarms, alerts, messages."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from buckler.errors import PolicyError, StoreDownError, UsageError
from buckler.guard.rule import Calibrated
from buckler.ops.alarms import LEARNT_ROWS
from buckler.ops.alerts import Finding
from buckler.serve.alerting import teller_of
from buckler.serve.duties import Duties
from buckler.serve.judged import Judged
from buckler.serve.monitor import Monitor, MonitorCounts, reference_of
from buckler.serve.watch import Seen
from buckler.serve.webhook import NotTakenError
from buckler.store import alerts, monitors, outbox
from buckler.store.engine import Store
from buckler.store.monitors import Telling
from buckler.verdict import Verdict

from .stored import opened
from .test_duties import GIVEN, SECRETS, Clock, Receiver, receiving
from .tiny import BLANK, CLASSIFY, DIGEST, LEFT, body, settings, tiny_guard, wait_for

N = 10_000
FINDING = Finding("key", "page", "title", {"n": 1}, "do", "depth", DIGEST, ("1",), "red team")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


def calibrated() -> Any:
    """The tiny guard with a rule calibrated on scores made up, like those of clean rows."""
    scores = torch.randn(1, N, generator=torch.Generator().manual_seed(0))
    return replace(tiny_guard(), rule=Calibrated.fit(scores, scores, 0.01))


def seen(count: int, *, deep: float = 0.0, seed: int = 0, bundle: str = DIGEST) -> Seen:
    random = np.random.default_rng(seed)
    p = random.random(count)
    p[random.random(count) < deep] = 1e-5
    odd = (1 - np.ceil(p * (N + 1)) / (N + 1)).tolist()
    sure = (1 / (1 + np.exp(random.normal(size=count)))).tolist()
    found = [
        Verdict("left", p, each, "SUSPICIOUS" if each >= 0.99 else "ACCEPTED", (), bundle)
        for each, p in zip(odd, sure, strict=True)
    ]
    return Seen(10.0, "key", "id", LEFT, Judged(found, torch.zeros(count, 3), ("",) * count))


def watching(store: Store, clock: Clock) -> Monitor:
    guards = [calibrated()]
    return Monitor(store, lambda: guards, 1e6, Telling((alerts.WEBHOOK,)), None, clock=clock)


def test_the_reference_is_what_the_calibration_says() -> None:
    found = reference_of(calibrated())
    assert (found.n, found.ranks) == (N, (100, 12, 1))
    assert found.classes == ("left", "right", "even")
    assert found.review is not None
    low, expected, high = found.review
    assert 0.008 < low < expected <= 0.01 < high < 0.012
    assert len(found.confident) == 9
    assert list(found.confident) == sorted(found.confident)


def test_the_articles_guard_has_no_reference_but_its_traffic() -> None:
    found = reference_of(tiny_guard())
    assert (found.ranks, found.review, found.confident) == ((), None, ())


def test_answers_that_are_all_sure_have_no_ranks() -> None:
    scores = -20 - torch.rand(1, N, generator=torch.Generator().manual_seed(0))
    guard = replace(tiny_guard(), rule=Calibrated.fit(scores, scores, 0.01))
    assert reference_of(guard).confident == ()


def test_an_attack_becomes_an_alert(store: Store) -> None:
    monitor = watching(store, Clock())
    monitor.saw([seen(2000)])
    monitor.round()
    assert alerts.listed(store) == []
    monitor.saw([seen(500, deep=0.1, seed=n) for n in range(4)])
    monitor.round()
    assert "depth" in {each.finding.facts["statistic"] for each in alerts.listed(store)}
    assert monitor.alerts["page"] >= 1
    pages = {m.name: m for m in MonitorCounts(monitor).collect()}
    assert pages["buckler_monitor_rows"].samples[0].value == 4000
    assert pages["buckler_monitor_rows"].samples[0].labels == {"bundle": DIGEST[:12]}
    assert 0 <= pages["buckler_monitor_level"].samples[0].value < 1


def test_two_gateways_are_one_monitor_and_one_takes_over(store: Store) -> None:
    clock = Clock()
    one, other = watching(store, clock), watching(store, clock)
    for each in (one, other):
        each.saw([seen(300)])
        each.round()
    other.round()
    assert monitors.read(store, DIGEST).seen == 300, "the second is not the one that folds"
    one.round()
    assert monitors.read(store, DIGEST).seen == 600
    other.saw([seen(100)])
    clock.now += 16
    other.round()
    assert monitors.read(store, DIGEST).seen == 700, "the first died"
    assert {digest: state.seen for digest, _, state in other.states()} == {DIGEST: 700}


def test_what_a_stopped_gateway_saw_is_not_lost(store: Store) -> None:
    clock = Clock()
    one = watching(store, clock)
    one.saw([seen(300)])
    one.stop()
    other = watching(store, clock)
    other.round()
    assert monitors.read(store, DIGEST).seen == 300


def test_with_the_store_down_rows_wait_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monitor = watching(store, Clock())
    monitor.saw([seen(300)])

    def down(*_: object) -> None:
        raise StoreDownError("down")

    monkeypatch.setattr("buckler.store.monitors.add", down)
    with pytest.raises(StoreDownError):
        monitor.round()
    monitor.saw([seen(200)])
    monkeypatch.undo()
    monitor.round()
    assert monitors.read(store, DIGEST).seen == 500


def test_no_more_wait_than_there_is_room(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buckler.serve.monitor._MOST", 100)
    monitor = watching(store, Clock())
    monitor.saw([seen(150), seen(5, bundle="another")])
    assert monitor.missed == 55
    monitor.round()
    assert monitors.read(store, DIGEST).seen == 100


def test_a_gateway_watches_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soon = {"every_s": 0.05, "clock": lambda: 1000.0}
    monkeypatch.setattr("buckler.serve.monitor.Monitor.__init__.__kwdefaults__", soon)
    with opened(tmp_path) as gateway:
        gateway.client.post(CLASSIFY, json=body(LEFT, BLANK))
        wait_for(lambda: monitors.read(gateway.store, DIGEST).seen == 2)
        wait_for(lambda: "buckler_monitor_rows_total" in gateway.client.get("/metrics").text)
        told = gateway.client.get("/v1/alerts").json()
    assert told["alerts"] == []
    (one,) = told["monitors"]
    assert one["bundle"] == DIGEST
    assert f"learning from the first {LEARNT_ROWS} rows" in " ".join(one["not_watched"])


def put(store: Store, ways: tuple[str, ...]) -> None:
    with store.write() as connection:
        alerts.raise_alert(connection, FINDING, 1000.0, ways, "https://guide")


def test_the_webhook_gets_alertmanagers_shape_and_is_tried_again(
    store: Store, receiver: Receiver
) -> None:
    given = {"store": "x", "alert_webhook": receiver.url, "webhook_private": True}
    teller = teller_of(settings(**given))
    put(store, teller.telling.ways)
    clock = Clock()
    duties = Duties(store, None, None, teller.send, clock=clock)
    receiver.statuses.append(503)
    duties.round()
    clock.now += 11
    duties.round()
    duties.round()
    assert (duties.sent, duties.failed) == (1, 1)
    (headers, first), (_, second) = receiver.got
    assert first == second
    assert headers["content-type"] == "application/json"
    assert "webhook-signature" not in headers
    told = json.loads(first)
    assert (told["version"], told["status"]) == ("4", "firing")
    assert told["commonAnnotations"]["runbook_url"] == "https://guide#depth"


def test_with_a_secret_it_is_signed(store: Store, receiver: Receiver) -> None:
    given = {"store": "x", "alert_webhook": receiver.url, "webhook_private": True}
    teller = teller_of(settings(**given, webhook_secret=GIVEN))
    assert teller.webhook is not None
    assert teller.webhook.secrets == SECRETS
    put(store, teller.telling.ways)
    Duties(store, None, None, teller.send, clock=Clock()).round()
    assert receiver.got[0][0]["webhook-signature"].startswith("v1,")


def test_apprise_tells_people(store: Store, receiver: Receiver) -> None:
    pytest.importorskip("apprise")
    port = receiver.url.split(":")[2].split("/")[0]
    urls = f"json://127.0.0.1:{port}/a json://127.0.0.1:1/down"
    teller = teller_of(settings(store="x", alert_urls=urls))
    assert "127.0.0.1" not in repr(teller)
    put(store, teller.telling.ways)
    duties = Duties(store, None, None, teller.send, clock=Clock())
    duties.round()
    assert (duties.sent, duties.failed) == (1, 1), "one place that is down holds no other up"
    told = json.loads(receiver.got[0][1])
    assert told["title"] == "[firing, page] title"
    assert "https://guide#depth" in told["message"]


def test_a_place_that_is_gone_is_not_taken(store: Store) -> None:
    teller = teller_of(settings())
    assert teller.telling.ways == ()
    for kind in (alerts.WEBHOOK, "alert.apprise.123"):
        with pytest.raises(NotTakenError, match="any more"):
            teller.send(outbox.Message(1, kind, 0.0, {}, 1), 0.0)


def test_places_that_cannot_be() -> None:
    with pytest.raises(UsageError, match=r"the webhook must be https://HOST/PATH"):
        teller_of(settings(store="x", alert_webhook="http://example.com/"))
    with pytest.raises(PolicyError, match="not public"):
        teller_of(settings(store="x", alert_webhook="https://127.0.0.1/"))
    with pytest.raises(UsageError, match="alert_webhook needs a store"):
        settings(alert_webhook="https://example.com/")
    with pytest.raises(UsageError, match="alert_urls needs a store") as caught:
        settings(alert_urls="slack://token")
    assert "token" not in str(caught.value)


def test_apprise_missing_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "apprise", None)
    with pytest.raises(UsageError, match=r'pip install -c constraints.txt -e "\.\[notify\]"'):
        teller_of(settings(store="x", alert_urls="slack://token"))


def test_urls_that_apprise_does_not_know() -> None:
    pytest.importorskip("apprise")
    with pytest.raises(UsageError, match="Got one of nothing:") as caught:
        teller_of(settings(store="x", alert_urls="nothing://token"))
    assert "token" not in str(caught.value)


POSTED = {"key": "redteam/2026-11", "tier": "ticket", "title": "Square breaks 3 points more"}


def test_alerts_over_http(tmp_path: Path) -> None:
    with opened(tmp_path, runbooks="https://guide") as gateway:
        client = gateway.client
        given = {**POSTED, "facts": {"before": 0.1, "now": 0.13}, "runbook": "red-team"}
        first = client.post("/v1/alerts", json=given)
        assert first.status_code == 200
        made = first.json()
        assert (made["key"], made["state"]) == ("posted/redteam/2026-11", "open")
        assert made["runbook"] == "https://guide#red-team"
        assert made["source"] not in ("", "monitor")
        assert client.post("/v1/alerts", json=given).json()["count"] == 2
        taken = client.post(f"/v1/alerts/{made['id']}/acknowledge")
        assert taken.json()["state"] == "acknowledged"
        assert taken.json()["by"] == made["source"]
        (one,) = client.get("/v1/alerts?state=acknowledged").json()["alerts"]
        assert one["facts"] == {"before": 0.1, "now": 0.13}
        over = client.post("/v1/alerts", json={**POSTED, "status": "resolved"})
        assert over.json()["state"] == "resolved"
        assert client.post(f"/v1/alerts/{made['id']}/acknowledge").status_code == 409
        nothing = client.post("/v1/alerts", json={**POSTED, "status": "resolved"})
        assert nothing.status_code == 204


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tier": "loud"}, "'tier' cannot be used"),
        ({"key": ""}, "'key' cannot be used"),
        ({"facts": {"a": [1]}}, "cannot be used"),
        ({"more": 1}, "'more' cannot be used"),
    ],
)
def test_a_finding_that_cannot_be(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    with opened(tmp_path) as gateway:
        told = gateway.client.post("/v1/alerts", json={**POSTED, **change})
        assert (told.status_code, said in told.json()["error"]) == (400, True)


def test_who_may_and_what_is_not_there(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:
        client = gateway.client
        for name in ("0" * 32, "x"):
            assert client.post(f"/v1/alerts/{name}/acknowledge").status_code == 404
        key = gateway.with_key("infer", "review", "admin")
        assert client.get("/v1/alerts", headers=key).status_code == 403
        assert client.post("/v1/alerts", json=POSTED, headers=key).status_code == 403
        assert client.get("/v1/alerts?state=loud").status_code == 400


def test_saw_may_be_called_while_a_round_runs(store: Store) -> None:
    monitor = watching(store, Clock())
    thread = threading.Thread(target=lambda: [monitor.round() for _ in range(5)])
    thread.start()
    for n in range(50):
        monitor.saw([seen(20, seed=n)])
    thread.join()
    monitor.round()
    assert monitors.read(store, DIGEST).seen == 1000
