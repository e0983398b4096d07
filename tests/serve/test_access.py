"""Every route × every role × no key, a bad, an expired and a revoked one, from the app itself."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.testclient import TestClient

from buckler.errors import UsageError
from buckler.guard import Guard
from buckler.ops.access import ROLES, Key, Keys, Role, digest_of, new_key, prefix_of
from buckler.serve import create_app
from buckler.serve.access import LOCAL, OPEN, PAGES, ROUTES, Access, gate
from buckler.serve.quota import Quota

from .stored import url_in
from .tiny import CLASSIFY, LEFT, body, settings

MADE: dict[Role, str] = {role: new_key() for role in ROLES}
EXPIRED, REVOKED = new_key(), new_key()


def kept(key: str, role: Role, **given: object) -> Key:
    made = Key(f"the-{role}", prefix_of(key), digest_of(key), frozenset({role}), 1e6, 1e6, None)
    return replace(made, **given)  # type: ignore[arg-type]


RING = Keys(
    [
        *(kept(key, role) for role, key in MADE.items()),
        kept(EXPIRED, "admin", roles=frozenset(ROLES), expires=time.time() - 1),
        kept(REVOKED, "admin", roles=frozenset(ROLES), revoked=True),
    ]
)


@pytest.fixture
def app(guard: Guard, tmp_path: Path) -> FastAPI:
    return create_app(guard, settings(store=url_in(tmp_path)), log=False, keys=RING)


@pytest.fixture
def locked(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def routes(app: FastAPI) -> list[tuple[str, str]]:
    """Those that keys are for: the pages have their own test."""
    found = [(m, route.path) for route in app.routes for m in sorted(route.methods)]  # type: ignore[attr-defined]
    return [(method, path) for method, path in found if f"{method} {path}" not in PAGES]


def filled(path: str) -> str:
    """A model of another name is not found: that is no matter of keys."""
    return path.replace("{", "").replace("}", "")


def test_the_table_is_the_apps_own(app: FastAPI) -> None:
    assert {f"{method} {path}" for method, path in routes(app)} == set(ROUTES) - set(PAGES)


def test_every_route_and_every_role(app: FastAPI, locked: TestClient) -> None:
    for method, path in routes(app):
        needed = ROUTES[f"{method} {path}"]
        for role, key in MADE.items():
            found = locked.request(method, filled(path), headers={"x-api-key": key})
            if needed == OPEN or role in needed.split(" or "):
                assert found.status_code not in (401, 403), (method, path, role)
                continue
            assert found.status_code == 403, (method, path, role)
            if method != "HEAD":
                sentence = f"this needs the role {needed}, which this caller has not"
                assert found.json() == {"error": sentence}


@pytest.mark.parametrize(
    ("headers", "sentence"),
    [
        ({}, "a key is needed"),
        ({"authorization": "Basic Zm9v"}, "a key is needed"),
        ({"authorization": f"Bearer {new_key()}"}, "this key is unknown, expired or revoked"),
        ({"x-api-key": "x" * 10_000}, "this key is unknown, expired or revoked"),
        ({"x-api-key": EXPIRED}, "this key is unknown, expired or revoked"),
        ({"authorization": f"Bearer {REVOKED}"}, "this key is unknown, expired or revoked"),
        (
            {"authorization": f"Bearer {MADE['infer']}", "x-api-key": MADE["admin"]},
            "Authorization and X-API-Key hold different keys",
        ),
    ],
)
def test_every_route_without_a_key_that_counts(
    app: FastAPI,
    locked: TestClient,
    headers: dict[str, str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("buckler.serve.quota._BAD_KEYS_AT_ONCE", 1000)
    for method, path in routes(app):
        found = locked.request(method, filled(path), headers=headers)
        if ROUTES[f"{method} {path}"] == OPEN:
            assert found.status_code not in (401, 403)
            continue
        assert found.status_code == 401
        assert found.headers["www-authenticate"] == 'Bearer realm="buckler"'
        if method != "HEAD":
            assert found.json() == {
                "error": f"{sentence}: send one as Authorization: Bearer KEY or X-API-Key: KEY"
            }


def test_both_headers_carry_a_key(locked: TestClient) -> None:
    for headers in (
        {"authorization": f"Bearer {MADE['infer']}"},
        {"authorization": f"bearer  {MADE['infer']} "},
        {"x-api-key": MADE["infer"]},
        {"x-api-key": MADE["infer"], "authorization": f"Bearer {MADE['infer']}"},
    ):
        assert locked.post(CLASSIFY, json=body(LEFT), headers=headers).status_code == 200


def test_who_may_not_ask_is_refused_before_anything_is_read(
    app: FastAPI, locked: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the body was read")

    monkeypatch.setattr("buckler.serve.body.read_body", never)
    assert locked.post(CLASSIFY, content=b"x" * 100).status_code == 401


def test_without_keys_this_machine_may_all_but_admin(guard: Guard) -> None:
    app = create_app(guard, settings(), log=False)
    here = TestClient(app, client=("127.0.0.1", 1234))
    far = TestClient(app, client=("192.0.2.1", 1234))
    with here:
        for method, path in routes(app):
            needed = ROUTES[f"{method} {path}"]
            assert here.request(method, filled(path)).status_code not in (401, 403)
            assert needed != "admin"
            refused = far.request(method, filled(path)).status_code == 401
            assert refused == (needed != OPEN)


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"host": "127.0.0.1:8080"}, True),
        ({"host": "[::1]:8080", "origin": "http://[::1]:8080"}, True),
        ({"host": "localhost:8080", "origin": "http://localhost:8080"}, True),
        ({"host": "gateway"}, True),
        ({"host": "localhost:8080", "origin": "http://evil.example"}, False),
        ({"host": "localhost:8080", "origin": "http://localhost:3000"}, False),
        ({"host": "localhost:8080", "origin": "null"}, False),
        ({"host": "evil.example:8080", "origin": "http://evil.example:8080"}, False),
        ({"host": "evil.example"}, False),
        ({"host": "[::1"}, False),
    ],
)
def test_without_keys_no_page_of_another_site_may_call(
    guard: Guard, headers: dict[str, str], allowed: bool
) -> None:
    with TestClient(create_app(guard, settings(), log=False)) as client:
        found = client.post(CLASSIFY, json=body(LEFT), headers=headers)
        assert (found.status_code == 200) == allowed, found.text
        if not allowed:
            assert found.status_code in (400, 403)


def test_with_keys_the_key_decides(locked: TestClient) -> None:
    headers = {"host": "buckler.example", "origin": "http://else", "x-api-key": MADE["infer"]}
    assert locked.post(CLASSIFY, json=body(LEFT), headers=headers).status_code == 200


def test_a_route_outside_the_table_stops_the_start(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = {name: role for name, role in ROUTES.items() if "metrics" not in name}
    monkeypatch.setattr("buckler.serve.access.gate.__defaults__", (fewer,))
    with pytest.raises(UsageError, match="the route GET /metrics has no entry in the table"):
        create_app(guard, settings(), log=False)


def test_a_route_added_later_stops_the_start(app: FastAPI) -> None:
    @app.get("/behind")
    async def behind() -> None: ...

    with pytest.raises(UsageError, match="was added after the gates"), TestClient(app):
        pass


def test_what_cannot_be_looked_up_cannot_be_guarded(app: FastAPI) -> None:
    mounting, including = FastAPI(openapi_url=None), FastAPI(openapi_url=None)
    mounting.mount("/inside", app)
    router = APIRouter()
    router.add_api_route("/metrics", lambda: "inside", methods=["GET"])
    including.include_router(router)
    for other in (mounting, including):
        with pytest.raises(UsageError, match=r"^the route \S+ has no entry in the table"):
            gate(other, Access(None, Quota(), lambda _: None))
    assert "admin" not in LOCAL.roles


def test_too_many_bad_keys_from_one_address(app: FastAPI) -> None:
    with TestClient(app, client=("192.0.2.1", 1)) as one:
        assert [one.get("/metrics").status_code for _ in range(20)] == [401] * 20, "no key at all"
        bad = {"x-api-key": new_key()}
        codes = [one.get("/metrics", headers=bad).status_code for _ in range(12)]
        assert codes == [401] * 10 + [429] * 2
        refused = one.get("/metrics", headers=bad)
        assert refused.json()["error"] == (
            "the gateway is busy, too many bad keys came from this address: try again in 5 s"
        )
        assert refused.headers["retry-after"] == "5"
        good = {"x-api-key": MADE["metrics"]}
        assert one.get("/metrics", headers=good).status_code == 200, "a good key still counts"
        other = TestClient(app, client=("192.0.2.2", 1))
        assert other.get("/metrics", headers=bad).status_code == 401
