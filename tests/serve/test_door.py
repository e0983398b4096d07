"""Who gets in: passwords, few tries, cookies, tokens in forms, and every page behind them."""

import re
import time

import pytest
import sqlalchemy as sa
from fastapi import FastAPI
from fastapi.testclient import TestClient

from buckler.errors import UsageError
from buckler.guard import Guard
from buckler.serve.access import OPEN, PAGES
from buckler.serve.door import Throttle
from buckler.serve.refusal import RefusedError
from buckler.store.engine import Store
from buckler.store.tables import sessions
from buckler.store.users import disable_user, open_session

from .desks import PASSWORD, SIGNING, fill, logged_in, pages_app, person, with_view


@pytest.fixture
def guard() -> Guard:
    return with_view()


@pytest.fixture
def app(guard: Guard, store: Store) -> FastAPI:
    return pages_app(guard, store)


def token_in(text: str) -> str:
    found = re.search('name="token" value="([^"]+)"', text)
    assert found, text
    return found[1]


def log_in(
    client: TestClient, name: str = "ann", password: str = PASSWORD, onward: str = ""
) -> object:
    page = client.get("/login", params={"next": onward})
    form = {"name": name, "password": password, "token": token_in(page.text), "next": onward}
    return client.post("/login", data=form, follow_redirects=False)


def test_in_and_out(app: FastAPI, store: Store) -> None:
    person(store)
    with TestClient(app) as client:
        away = client.get("/review", follow_redirects=False)
        assert (away.status_code, away.headers["location"]) == (303, "/login?next=/review")
        found = log_in(client, onward="/review")
        assert (found.status_code, found.headers["location"]) == (303, "/review")
        inside = client.get("/queue")
        assert inside.status_code == 200
        kept = dict(client.cookies)
        out = client.post("/logout", data={"token": token_in(inside.text)}, follow_redirects=False)
        assert out.headers["location"] == "/login"
        assert client.get("/queue", follow_redirects=False).status_code == 303
        client.cookies.update(kept)
        # The session itself ended, not only the cookie.
        assert client.get("/queue", follow_redirects=False).status_code == 303


@pytest.mark.parametrize("https", [False, True])
def test_the_cookies_are_for_the_browser_alone(guard: Guard, store: Store, https: bool) -> None:
    person(store)
    app = pages_app(guard, store, https=https)
    base = "https://testserver" if https else "http://testserver"
    with TestClient(app, base_url=base) as client:
        page = client.get("/login")
        visit = page.headers["set-cookie"].lower()
        session = log_in(client).headers["set-cookie"].lower()
    for cookie in (visit, session):
        assert cookie.startswith("__host-buckler") == https
        assert ("; secure" in cookie) == https
        for flag in ("httponly", "samesite=strict", "path=/", "max-age=28800"):
            assert f"; {flag}" in cookie
        assert "domain" not in cookie


def test_a_wrong_password_and_an_unknown_name_read_the_same(app: FastAPI, store: Store) -> None:
    person(store)
    with TestClient(app) as client:
        wrong, unknown = log_in(client, password="wrong wrong wrong"), log_in(client, name="bob")
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    without = [re.sub('value="[^"]*"', "", page.text) for page in (wrong, unknown)]
    assert without[0] == without[1]
    assert "that is not the name and password of anyone here" in without[0]
    assert "set-cookie" in wrong.headers
    assert "buckler=" not in wrong.headers["set-cookie"]


def test_nobody_leads_away_after_the_login(app: FastAPI, store: Store) -> None:
    person(store)
    with TestClient(app) as client:
        for onward in ("//evil.example", "https://evil.example", "/review/../logout", "/v2", "\\x"):
            assert log_in(client, onward=onward).headers["location"] == "/queue"
            client.cookies.clear()


def test_a_new_login_ends_the_old_session(app: FastAPI, store: Store) -> None:
    person(store)
    with TestClient(app) as client:
        log_in(client)
        log_in(client)
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(sessions)) == 1


def test_few_tries_from_an_address_and_at_a_name_whoever_asks() -> None:
    now = [0.0]
    throttle = Throttle(lambda: now[0])
    for number in range(10):
        throttle.take("192.0.2.1", f"name {number}")
    with pytest.raises(
        RefusedError, match="too many passwords were wrong for this address"
    ) as seen:
        throttle.take("192.0.2.1", "another")
    assert seen.value.status == 429
    assert seen.value.headers["retry-after"] == "5"
    for number in range(10):
        throttle.take(f"198.51.100.{number}", "ann")
    with pytest.raises(RefusedError, match="too many passwords were wrong for this name"):
        throttle.take("203.0.113.1", "ann")
    now[0] = 10.0
    throttle.take("203.0.113.1", "ann")
    # One network of IPv6 is one address; what was right costs nothing.
    for number in range(30):
        throttle.take(f"2001:db8::{number:x}", f"user {number}")
        throttle.give_back(f"2001:db8::{number:x}", f"user {number}")
    for number in range(10):
        throttle.take(f"2001:db8::{number:x}", f"user {number}")
    with pytest.raises(RefusedError):
        throttle.take("2001:db8::ffff", "x")


def test_the_throttle_remembers_no_more_than_it_may() -> None:
    throttle = Throttle(lambda: 0.0)
    for number in range(11_000):
        throttle.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", str(number))
    assert len(throttle._buckets) == 10_000


def test_too_many_failures_are_a_page_that_says_when(
    guard: Guard, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buckler.serve.door.check_password", lambda *_: None)
    monkeypatch.setattr("buckler.serve.pages.Throttle", lambda: Throttle(lambda: 0.0))
    with TestClient(pages_app(guard, store)) as client:
        codes = [log_in(client).status_code for _ in range(11)]
        last = log_in(client)
    assert codes == [401] * 10 + [429]
    assert int(last.headers["retry-after"]) >= 1
    assert "too many passwords were wrong for this address" in last.text
    assert 'href="/login"' in last.text


def test_a_new_secret_ends_no_session_and_a_dropped_one_ends_it(guard: Guard, store: Store) -> None:
    user = person(store)
    with logged_in(pages_app(guard, store), store, user) as client:
        cookie, form = client.cookies["buckler"], token_in(client.get("/queue").text)
    new = b"a secret that came later"
    for signing, inside in (((new, *SIGNING), True), ((SIGNING[0],), True), ((new,), False)):
        with TestClient(pages_app(guard, store, signing=signing)) as client:
            client.cookies.set("buckler", cookie)
            assert (client.get("/queue", follow_redirects=False).status_code == 200) == inside
            posted = client.post("/review/aa/undo", data={"token": form})
            assert (posted.status_code == 404) == inside


def test_secrets_must_be_there_and_long(guard: Guard, store: Store) -> None:
    for signing in ((), (b"short",), (SIGNING[0], b"short")):
        with pytest.raises(UsageError, match="16 bytes or more"):
            pages_app(guard, store, signing=signing)


def test_every_page_wants_a_login_the_role_and_a_token(
    app: FastAPI, guard: Guard, store: Store
) -> None:
    """The matrix of the pages: no cookie, forged, ended, without the role, with it."""
    (name,) = fill(store, guard, 1)
    ann, eve = person(store), person(store, "eve", roles=("infer", "operate", "admin", "metrics"))
    gone = person(store, "gone")
    tokens = {
        user.name: open_session(store, user, time.time(), SIGNING) for user in (ann, eve, gone)
    }
    late = open_session(store, ann, time.time() - 9 * 3600, SIGNING)
    disable_user(store, "gone", time.time(), "test")
    forged = tokens["ann"].partition(".")[0] + "." + "0" * 64
    dashboard = re.compile(r"\S+ /(dashboard|events)\b")  # has a matrix of its own
    pages = {place: role for place, role in PAGES.items() if not dashboard.match(place)}
    assert {f"{m} {r.path}" for r in app.routes for m in r.methods} == set(pages)  # type: ignore[attr-defined]
    with TestClient(app, follow_redirects=False) as client:

        def ask(place: str, cookie: str) -> int:
            method, _, path = place.partition(" ")
            path = path.format(review_id=name, number=0, name="page.css")
            headers = {b"cookie": f"buckler={cookie}".encode(), b"x-api-key": b"bk_any"}
            return client.request(method, path, headers=headers).status_code

        for place, role in pages.items():
            if role == OPEN:
                continue
            refused = 303 if place.startswith("GET") else 401
            for cookie in ("", "x", "a.b", "é.ü", forged, late, tokens["gone"]):
                assert ask(place, cookie) == refused, (place, cookie)
            # Whoever is in may go out; a POST without a form has no token.
            assert ask(place, tokens["eve"]) == (415 if place == "POST /logout" else 403), place
            # The input has no difference to itself; a POST without a form has no token.
            inside = 404 if "difference" in place else 200 if refused == 303 else 415
            assert ask(place, tokens["ann"]) == inside, place


def test_a_form_without_its_token_changes_nothing(app: FastAPI, guard: Guard, store: Store) -> None:
    ann, bob = person(store), person(store, "bob")
    (name,) = fill(store, guard, 1)
    with logged_in(app, store, bob) as client:
        others = token_in(client.get("/queue").text)
    with logged_in(app, store, ann) as client:
        page = client.get("/review").text
        lease = re.search('name="lease_id" value="([^"]+)"', page)
        assert lease
        form = {"lease_id": lease[1], "version": "1", "kind": "accept"}
        place = f"/review/{name}/decide"
        for token in ("", "x", "a.b", "é.ü", others, "." + token_in(page).partition(".")[2]):
            sent = client.post(place, data={**form, "token": token})
            assert sent.status_code == 403
            assert "This form is too old" in sent.text
        good = {**form, "token": token_in(page)}
        foreign = client.post(place, data=good, headers={"sec-fetch-site": "cross-site"})
        assert foreign.status_code == 403
        for kind in ("application/json", "text/plain", "multipart/form-data"):
            sent = client.post(place, content=b"x=1", headers={"content-type": kind})
            assert sent.status_code == 415
        assert client.get(place).status_code == 405
        assert client.post(place, data=good).status_code == 200
        assert "You accepted" in client.get(f"/review?after={name}").text
    with TestClient(app) as client:
        found = client.post("/login", data={"name": "ann", "password": PASSWORD, "token": "a.b"})
        assert found.status_code == 403
        foreign_visit = token_in(TestClient(app).get("/login").text)
        client.get("/login")
        form = {"name": "ann", "password": PASSWORD, "token": foreign_visit}
        assert client.post("/login", data=form).status_code == 403


def test_a_form_that_is_too_large_or_broken_is_a_sentence(app: FastAPI, store: Store) -> None:
    user = person(store)
    kind = {"content-type": "application/x-www-form-urlencoded"}
    with logged_in(app, store, user) as client:
        for content, status in (
            (b"x=" + b"a" * 70_000, 413),
            (b"&".join(b"a=b" for _ in range(50)), 400),
            (b"a=\xff\xfe", 400),
            (b"a=%00", 400),
        ):
            sent = client.post("/logout", content=content, headers=kind)
            assert sent.status_code == status
            assert 'role="alert"' in sent.text
