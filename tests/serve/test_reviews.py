"""The review queue over HTTP: what a reviewer does, who may, and what is refused how."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buckler.ops.review import Policy
from buckler.store.known import Known, seed
from buckler.store.shared import set_policy
from buckler.store.tables import reviews

from .stored import Opened, opened
from .tiny import BLANK, CLASSIFY, LEFT, SPEC, body

API = "/v1/reviews"


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Opened]:
    with opened(tmp_path) as found:
        yield found


def flagged(gateway: Opened, count: int = 1, **headers: str) -> list[str]:
    """So many rows under review, each of a request of its own."""
    names = []
    for _ in range(count):
        sent = {"content-type": "image/png", **headers}
        found = gateway.client.post(CLASSIFY, content=SPEC.encode(BLANK[0]), headers=sent)
        names.append(found.json()["verdicts"][0]["review_id"])
    return names


def take(gateway: Opened, **headers: str) -> dict[str, Any]:
    found = gateway.client.post(f"{API}/next", json={"senior": False}, headers=headers)
    assert found.status_code == 200, found.text
    return dict(found.json())


def decided(gateway: Opened, item: dict[str, Any], kind: str, **more: object) -> Any:
    given = {"lease_id": item["lease_id"], "version": item["version"], "kind": kind, **more}
    headers = given.pop("headers", None)
    return gateway.client.post(f"{API}/{item['id']}/decision", json=given, headers=headers)  # type: ignore[arg-type]


def test_take_look_renew_decide_undo(gateway: Opened) -> None:
    assert gateway.client.post(f"{API}/next").status_code == 204
    (name,) = flagged(gateway)
    item = take(gateway)
    assert (item["id"], item["state"], item["media_type"]) == (name, "waiting", "image/png")
    assert item["verdict"]["status"] == "SUSPICIOUS"
    assert gateway.client.get(f"{API}/{name}").json() == item
    sent = gateway.client.get(f"{API}/{name}/input")
    assert sent.content == SPEC.encode(BLANK[0])
    assert sent.headers["content-type"] == "image/png"
    assert sent.headers["content-disposition"] == "attachment"
    assert sent.headers["x-content-type-options"] == "nosniff"
    lease = {"lease_id": item["lease_id"]}
    until = gateway.client.post(f"{API}/{name}/renew", json=lease).json()["lease_until"]
    assert until >= item["lease_until"]
    assert gateway.client.post(f"{API}/{name}/release", json=lease).status_code == 204
    assert gateway.client.post(f"{API}/{name}/renew", json=lease).status_code == 409
    item = take(gateway)
    done = decided(gateway, item, "label", label="right", note="light", key="once")
    assert (done.status_code, done.json()["state"], done.json()["label"]) == (
        200,
        "decided",
        "right",
    )
    assert decided(gateway, item, "label", label="right", key="once").json() == done.json()
    assert decided(gateway, item, "accept", key="once").status_code == 409
    assert decided(gateway, item, "accept", key="another").status_code == 409
    back = gateway.client.post(f"{API}/{name}/undo", json={"lease_id": "any"}).json()
    assert (back["state"], back["version"]) == ("waiting", done.json()["version"] + 1)
    assert gateway.client.post(f"{API}/{name}/undo").status_code == 409


def test_a_caller_hears_what_became_of_its_own_rows_only(gateway: Opened) -> None:
    mine, others = gateway.with_key("infer"), gateway.with_key("infer")
    (name,) = flagged(gateway, **mine)
    path = f"/v1/verdicts/{name}"
    waiting = {"state": "waiting", "outcome": None, "label": None}
    assert gateway.client.get(path, headers=mine).json() == waiting
    for headers in (others, {}):
        found = gateway.client.get(path, headers=headers)
        assert found.status_code == 404
        assert found.json() == {"error": "no input under review has this id"}
    assert decided(gateway, take(gateway), "label", label="right").status_code == 200
    said = {"state": "decided", "outcome": "label", "label": "right"}
    assert gateway.client.get(path, headers=mine).json() == said


def test_nobody_sees_or_ends_anothers_lease(gateway: Opened) -> None:
    (name,) = flagged(gateway)
    other = gateway.with_key("review")
    lease = take(gateway)["lease_id"]
    seen = gateway.client.get(f"{API}/{name}", headers=other).json()
    assert seen["lease_id"] is None
    assert seen["lease_by"]
    for what in ("renew", "first", "decision"):
        given = {"lease_id": lease, "label": "left"} if what == "first" else {"lease_id": lease}
        if what == "decision":
            given |= {"version": 1, "kind": "accept"}  # type: ignore[dict-item]
        sent = gateway.client.post(f"{API}/{name}/{what}", json=given, headers=other)
        assert sent.status_code == 409, what
    assert gateway.client.post(f"{API}/next", headers=other).status_code == 204


def test_escalated_items_are_for_keys_that_also_operate(gateway: Opened) -> None:
    junior, other = gateway.with_key("review"), gateway.with_key("review")
    flagged(gateway)
    assert decided(gateway, take(gateway, **junior), "unsure", headers=junior).status_code == 200
    refused = gateway.client.post(f"{API}/next", json={"senior": True}, headers=other)
    assert refused.status_code == 403
    assert gateway.client.post(f"{API}/next", headers=other).status_code == 204
    senior = gateway.client.post(f"{API}/next", json={"senior": True}).json()
    assert senior["level"] == 1
    assert decided(gateway, senior, "accept").json()["state"] == "decided"


def test_a_blind_queue_asks_first(gateway: Opened) -> None:
    set_policy(gateway.store, Policy(blind=True), 0.0, "test")
    (name,) = flagged(gateway)
    item = take(gateway)
    assert item["prediction"] is None
    early = decided(gateway, item, "accept")
    assert (early.status_code, "give your own label" in early.json()["error"]) == (400, True)
    given = {"lease_id": item["lease_id"], "label": "left"}
    shown = gateway.client.post(f"{API}/{name}/first", json=given).json()
    assert shown["prediction"] in SPEC.class_names
    assert shown["lease_id"] == item["lease_id"]
    assert decided(gateway, item, "accept").status_code == 200


def test_a_list_the_numbers_and_items_whose_answer_is_known(gateway: Opened) -> None:
    names = flagged(gateway, 3)
    known = Known(b"known", "image/png", {"prediction": "left"}, "label", "right")
    (secret,) = seed(gateway.store, [known], 0.0, "test")
    found = gateway.client.get(API).json()["reviews"]
    assert {each["id"] for each in found} == {*names, secret}
    (shown,) = [each for each in found if each["id"] == secret]
    assert (shown["state"], shown["outcome"], shown["label"]) == ("waiting", None, None)
    waiting = gateway.client.get(API, params={"state": "waiting"}).json()["reviews"]
    assert {secret} < {each["id"] for each in waiting}
    assert len(gateway.client.get(API, params={"limit": 2}).json()["reviews"]) == 2
    assert gateway.client.get(API, params={"state": "decided"}).json() == {"reviews": []}
    numbers = gateway.client.get(f"{API}/stats").json()
    assert sum(numbers["states"].values()) == 3, "those known apart"


def test_the_export_is_a_zip_of_what_was_decided(gateway: Opened) -> None:
    (name,) = flagged(gateway)
    decided(gateway, take(gateway), "label", label="left")
    sent = gateway.client.get(f"{API}/export")
    assert sent.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(sent.content)) as packed:
        assert packed.read(f"images/left/{name}.png") == SPEC.encode(BLANK[0])
        (line,) = packed.read("items.jsonl").splitlines()
    assert json.loads(line)["id"] == name
    later = gateway.client.get(f"{API}/export", params={"since": 1e11})
    with zipfile.ZipFile(io.BytesIO(later.content)) as packed:
        assert packed.read("items.jsonl") == b""


@pytest.mark.parametrize(
    ("path", "sent", "sentence"),
    [
        ("next", {"senior": "yes"}, "'senior' cannot be used: Input should be a valid boolean"),
        ("next", [], "the body must be a JSON object"),
        ("next", {"more": 1}, "'more' cannot be used: Extra inputs are not permitted"),
        ("ID/decision", {"lease_id": "a", "version": 1}, "'kind' cannot be used: Field required"),
        ("ID/first", {"lease_id": "a", "label": "../up"}, "'label' cannot be used: String should"),
        ("ID/first", {"lease_id": "a\0", "label": "a"}, "'lease_id' cannot be used: String should"),
    ],
)
def test_wrong_bodies_are_told(gateway: Opened, path: str, sent: Any, sentence: str) -> None:
    found = gateway.client.post(f"{API}/{path.replace('ID', 'a' * 32)}", json=sent)
    assert found.status_code == 400
    assert found.json()["error"].startswith(sentence)


@pytest.mark.parametrize("name", ["a" * 32, "a", "%00" * 32, "A" * 32, "..", "stats2"])
def test_what_is_not_there_is_404(gateway: Opened, name: str) -> None:
    lease = {"lease_id": "x"}
    said = {**lease, "version": 1, "kind": "accept"}
    for method, what, given in (
        ("GET", "", None),
        ("GET", "/input", None),
        ("POST", "/first", {**lease, "label": "left"}),
        ("POST", "/renew", lease),
        ("POST", "/release", lease),
        ("POST", "/decision", said),
        ("POST", "/undo", {}),
    ):
        found = gateway.client.request(method, f"{API}/{name}{what}", json=given)
        assert found.status_code in (404, 405), (method, what, found.text)


def test_a_redacted_input_is_not_there(gateway: Opened) -> None:
    from buckler.store.care import redact

    (name,) = flagged(gateway)
    redact(gateway.store, name, 0.0, "test")
    found = gateway.client.get(f"{API}/{name}/input")
    assert (found.status_code, found.json()["error"]) == (404, "the input of this item was removed")


def test_a_lost_input_and_a_store_that_is_down_are_503(
    gateway: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    (name,) = flagged(gateway)
    (row,) = gateway.rows(reviews)
    gateway.store.blobs.drop(row["blob"])
    found = gateway.client.get(f"{API}/{name}/input")
    assert found.status_code == 503
    assert found.json() == {"error": "the store cannot be used now: try again"}


def test_without_a_store_there_is_no_queue(client: Any) -> None:
    assert client.post(f"{API}/next").status_code == 404
    assert "/v1/reviews" not in str(client.get("/openapi.json").json()["paths"])
    assert client.post(CLASSIFY, json=body(LEFT)).json()["verdicts"][0]["review_id"] == ""


def test_paths_are_counted_by_name(gateway: Opened) -> None:
    gateway.client.get(f"{API}/{'a' * 32}")
    gateway.client.get(f"{API}/{'b' * 32}")
    page = gateway.client.get("/metrics").text
    assert 'buckler_requests_total{code="404",route="/v1/reviews/{review_id}"} 2.0' in page
