"""The dashboard: who may read and act, what is counted, what is escaped, what a stream tells."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from buckler.ops.access import ROLES
from buckler.serve.access import PAGES
from buckler.serve.figures import against
from buckler.serve.pulse import MOST, Pulse
from buckler.store import alerts, rollouts
from buckler.store.shared import session_secret
from buckler.store.tables import audit
from buckler.store.users import add_user, open_session

from .dashed import EVIL, fill, requests
from .desks import PASSWORD
from .rolled import NONE, bundle, rolled
from .stored import Opened, opened, rows
from .tiny import CLASSIFY, LEFT, RIGHT, body, wait_for

READ = [p.removeprefix("GET ") for p in PAGES if p.startswith("GET /dashboard")]
HTML = [path for path in READ if not path.endswith(".js")]


def cookie(store: Any, *roles: str) -> dict[str, str]:
    now = time.time()
    user = add_user(store, f"{'-'.join(roles)} {now}", PASSWORD, roles, now, "test")
    return {"buckler": open_session(store, user, now, (session_secret(store, now),))}


@contextmanager
def seen_by(opened: Opened, *roles: str) -> Iterator[TestClient]:
    yield TestClient(opened.app, cookies=cookie(opened.store, *roles), follow_redirects=False)


class Links(HTMLParser):
    """What a page makes a browser ask for, and the tags and handlers it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "action", "formaction"):
                self.found.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(name)


def test_each_page_for_each_role(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:
        fill(gateway.store)
        for role in ROLES:
            with seen_by(gateway, role) as client:
                for path in READ:
                    allowed = role in ("operate", "review", "admin")
                    assert client.get(path).status_code == (200 if allowed else 403), (role, path)
        nobody = TestClient(gateway.app, follow_redirects=False)
        for path in [*READ, "/events"]:
            found = nobody.get(path)
            assert (found.status_code, found.headers["location"][:6]) == (303, "/login")


def test_nothing_off_origin_and_what_came_from_outside_is_text(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway, seen_by(gateway, "operate", "review") as client:
        fill(gateway.store)
        shown = 0
        for path in [*HTML, f"/dashboard/impact?missed={EVIL}&unit={EVIL}"]:
            found = client.get(path)
            page = Links(found.text)
            assert all(link.startswith(("/", "#")) for link in page.found), path
            assert not page.handlers
            assert "img" not in page.tags
            assert page.tags.count("script") == len(re.findall("<script src=", found.text))
            assert "script-src 'self';" in found.headers["content-security-policy"]
            shown += found.text.count("&lt;script&gt;")
        assert shown >= 5
        assert EVIL not in client.get("/dashboard/attacks").text


def figure(text: str, number: int = 0) -> dict[str, Any]:
    drawn = re.findall(r'data-figure="(.*?)"', text)[number]
    return json.loads(drawn.replace("&#34;", '"'))  # type: ignore[no-any-return]


def test_the_figures_are_those_counted_by_hand(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway, seen_by(gateway, "review") as client:
        now = fill(gateway.store)
        page = client.get("/dashboard").text
        accepted, suspicious = (sum(t["y"]) for t in figure(page)["data"])
        # 60 minutes of 20 + minute % 7 ACCEPTED and every second one SUSPICIOUS, and two bursts.
        assert accepted == sum(20 + m % 7 for m in range(60)) + 10
        assert suspicious == 30 + 56
        assert tile(page, "review_rate") == f"{100 * 86 / (86 + accepted):.1f} %"
        assert (tile(page, "waiting"), tile(page, "pages"), tile(page, "tickets")) == (
            "2",
            "1",
            "1",
        )
        assert tile(page, "p95") == "no answers"
        requests(gateway.store, (now - 1, 4, 3))
        assert tile(client.get("/dashboard").text, "minute") == "27"
        drawn = figure(client.get("/dashboard/attacks?span=day").text)["data"]
        assert [sum(t["y"]) for t in drawn[:2]] == [89, 9]
        assert [t["name"] for t in drawn[2:]] == ["page alert", "ticket alert"]
        near = figure(client.get("/dashboard?span=minutes").text)["data"]
        # Ten minutes by ten seconds; the seven rows of a second ago stand in one of the last two.
        assert len(near[0]["x"]) in (60, 61)
        assert all(len(at) == len("2026-11-23 03:02:10") for at in near[0]["x"])
        assert sum(near[0]["y"][-2:]) + sum(near[1]["y"][-2:]) >= 7
        days = figure(client.get("/dashboard/load").text)["data"][0]["y"]
        assert (len(days), sum(days)) == (14, 40)
        found = client.get("/dashboard/clients").text
        assert re.search(r"onerror=alert\(1\)&gt;</th><td>12</td><td>8</td>", found)


def tile(page: str, name: str) -> str:
    found = re.search(f'data-live="{name}">(.*?)</dd>', page)
    assert found
    return found[1]


def test_money_is_never_said_without_what_it_rests_on(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway, seen_by(gateway, "admin") as client:
        empty = client.get("/dashboard/impact?missed=1&review=1&false_alarm=1").text
        assert "No figure: no row was answered" in empty
        fill(gateway.store)
        assert "a week saved" not in client.get("/dashboard/impact").text
        prices = "missed=400&review=2&false_alarm=1"
        page = client.get(f"/dashboard/impact?{prices}").text
        # 10 of 86 SUSPICIOUS decided, 30 of 1386 ACCEPTED: thinned to 30 / 1386 of all.
        assert "2 attacks in 31 of them, 400 EUR a missed attack" in page
        assert "The interval holds 0" in page
        own = client.get(f"/dashboard/impact?{prices}&attacks=5&of=1000").text
        assert "5 attacks in 1,000 of them" in own
        for asked, sentence in (
            (f"{prices}&days=0", "Days must be 1 to 366. Got 0"),
            ("missed=x&review=1&false_alarm=1", "Missed must be a number. Got &#39;x&#39;"),
            (f"{prices}&attacks=-1&of=9", "Attacks must be a whole number"),
            (f"{prices}&attacks=10&of=9", "Attacks must be (k, n)"),
            (f"{prices}&minutes=inf", "Prices: minutes must be a number &gt;= 0"),
            (f"{prices}&days=nan", "Days must be 1 to 366. Got nan"),
        ):
            said = client.get(f"/dashboard/impact?{asked}").text
            assert sentence in said, asked
            assert "a week saved" not in said


@pytest.mark.parametrize("base", ["https://docs.example/ops", "docs/ops.md", "javascript://x"])
def test_an_alert_links_to_its_runbook_where_that_is_on_the_web(tmp_path: Path, base: str) -> None:
    with opened(tmp_path, runbooks=base) as gateway:
        fill(gateway.store)
        with seen_by(gateway, "operate") as client:
            page = client.get("/dashboard/alerts").text
    assert f"{base}#drift" in page
    assert (f'href="{base}#drift"' in page) == base.startswith("https")


def test_an_alert_is_taken_care_of_by_an_operator_only(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:
        fill(gateway.store)
        name = alerts.listed(gateway.store)[0].id
        place = f"/dashboard/alerts/{name}"
        with seen_by(gateway, "review", "admin") as client:
            page = client.get("/dashboard/alerts").text
            assert place not in page
            assert client.post(place, data={"token": token(page)}).status_code == 403
        with seen_by(gateway, "operate") as client:
            page = client.get("/dashboard/alerts").text
            assert client.post(place, data={"token": "x"}).status_code == 403
            assert client.post(place, data={"token": token(page)}).status_code == 303
            assert "acknowledged" in client.get("/dashboard/alerts").text
            gone = client.post("/dashboard/alerts/0", data={"token": token(page)})
            assert gone.status_code == 404
    assert "acknowledge" in {row["action"] for row in rows(gateway.store, audit)}


def token(page: str) -> str:
    found = re.search('name="token" value="(.*?)"', page)
    assert found
    return found[1]


def test_a_rollout_by_its_buttons(tmp_path: Path) -> None:
    bundle(tmp_path / "a")
    bundle(tmp_path / "b", NONE)
    with rolled(tmp_path, tmp_path / "a") as made:
        made.look()
        person = cookie(made.store, "operate")
        client = TestClient(made.app, cookies=person, follow_redirects=False)
        reader = TestClient(made.app, cookies=cookie(made.store, "review"), follow_redirects=False)
        form = {"token": token(client.get("/dashboard/rollout").text)}
        start = "/dashboard/rollout/start"
        refused = client.post(start, data={**form, "bundle": str(tmp_path / "none")})
        assert refused.status_code == 400
        assert client.post(start, data={**form, "bundle": ""}).status_code == 400
        mine = {"token": token(reader.get("/dashboard/rollout").text)}
        sent = {**mine, "bundle": str(tmp_path / "b")}
        assert reader.post(start, data=sent).status_code == 403
        assert client.post(start, data={**form, "bundle": str(tmp_path / "b")}).status_code == 303
        page = client.get("/dashboard/rollout").text
        assert "<dd>draft</dd>" in page
        name = {"rollout": re.findall('name="rollout" value="(.*?)"', page)[0]}
        assert "Roll back" not in reader.get("/dashboard/rollout").text
        assert client.post("/dashboard/rollout/fly", data=form).status_code == 404
        assert client.post("/dashboard/rollout/abort", data=form).status_code == 400
        assert client.post("/dashboard/rollout/abort", data={**form, **name}).status_code == 303
        last = rollouts.last(made.store)
        assert last is not None
        assert last.rollout.state == "ABORTED"
        page = client.get("/dashboard/bundle").text
        assert "✓ Passed" in page
        assert "Comparison.json is not there" in page


def test_scores_are_counted_against_the_calibration(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway, seen_by(gateway, "review") as client:
        gateway.client.post(CLASSIFY, json=body(LEFT, RIGHT, LEFT))

        def shown() -> bool:
            return "Anomaly score, 3 rows" in client.get("/dashboard/confidence").text

        wait_for(shown)
        page = client.get("/dashboard/confidence").text
        assert sum(figure(page)["data"][0]["y"]) == pytest.approx(1)
        assert "does not tell what to expect" in page  # the tiny guard is not calibrated
        overview = client.get("/dashboard").text
        assert re.fullmatch(r"≤ \d.* ms|over 10 s", tile(overview, "p95"))


def test_a_bin_is_called_more_only_when_it_surely_is() -> None:
    says = [each["says"] for each in against([100, 60, 20, 20], 0.25)]
    assert says == ["more", "as expected", "fewer", "fewer"]
    assert [each["says"] for each in against([0, 0], 0.5)] == ["", ""]
    assert [each["says"] for each in against([5, 5], None)] == ["", ""]


def texts(pulse: Pulse, most: int, then: Any = lambda: None) -> list[bytes]:
    """The first messages of a stream; `then` is called after each."""

    async def read() -> list[bytes]:
        found = []
        async for each in pulse._events():
            found.append(each)
            await asyncio.to_thread(then)
            if len(found) == most:
                break
        return found

    return asyncio.run(asyncio.wait_for(read(), 20))


def test_an_event_comes_after_a_verdict(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:
        views = gateway.app.state.dashboard
        pulse = Pulse(lambda: asyncio.to_thread(views.pulse), lambda: False)
        asked = iter([True])

        def ask() -> None:
            if pulse.open and pulse._last[1] and next(asked, False):
                gateway.client.post(CLASSIFY, json=body(LEFT, RIGHT))

        found = [json.loads(t.split(b"data: ")[1]) for t in texts(pulse, 3, ask)[1:]]
    assert [(each["minute"], each["health"]) for each in found] == [("0", "ready"), ("2", "ready")]


def test_streams_are_few_and_end_with_the_gateway() -> None:
    ending = False

    async def read() -> dict[str, str]:
        return {"health": "ready"}

    pulse = Pulse(read, lambda: ending)
    pulse.open = MOST
    assert texts(pulse, 9) == [b"retry: 60000\n\n"]
    pulse.open = 0
    ending = True
    assert texts(pulse, 9) == [b"retry: 3000\n\n"]
    assert pulse.open == 0
