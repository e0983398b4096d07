"""The client against a server that breaks, stalls, refuses and talks nonsense."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from buckler.client import (
    AsyncClient,
    Client,
    GatewayError,
    Outcome,
    Patience,
    Review,
)
from buckler.errors import BucklerError, ConflictError, DataError, PolicyError, UsageError

from .scripted import (
    Log,
    Step,
    half,
    refuses,
    resets,
    says,
    scripted,
    silent,
    trickles,
    verdicts,
)

ROW = np.zeros((1, 4), np.float32)
QUICK = Patience(deadline_s=5.0)
ITEM = Review("r1", "waiting", 7, lease_id="l1")


def ask(log: Log, how: str, method: str = "classify", *args: Any, **given: Any) -> Any:
    """One call of the blocking or the asynchronous client."""
    args = args or ((ROW,) if method == "classify" else ())
    patience = given.pop("patience", QUICK)
    if how == "blocking":
        with Client(log.url, patience=patience) as client:
            return getattr(client, method)(*args, **given)

    async def awaited() -> Any:
        async with AsyncClient(log.url, patience=patience) as client:
            return await getattr(client, method)(*args, **given)

    return asyncio.run(awaited())


both = pytest.mark.parametrize("how", ["blocking", "awaited"])


@both
@pytest.mark.parametrize(
    "bad",
    [
        resets,
        half,
        refuses(503, "starting", retry_after="0"),
        refuses(429, "full", retry_after="0"),
    ],
    ids=["reset", "half", "503", "429"],
)
def test_again_under_the_same_id(how: str, bad: Step) -> None:
    with scripted(bad, bad, verdicts) as log:
        (answer,) = ask(log, how)
    assert (answer.prediction, answer.label, answer.status) == ("cat", 3, "ACCEPTED")
    assert len(log.ids) == 3
    assert set(log.ids) == {answer.request_id}
    assert len({request.body for request in log.requests}) == 1


@both
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, DataError),
        (401, PolicyError),
        (403, PolicyError),
        (404, UsageError),
        (408, GatewayError),
        (409, ConflictError),
        (413, DataError),
        (415, DataError),
        (500, GatewayError),
        (503, GatewayError),
        (504, GatewayError),
        (302, GatewayError),
    ],
)
def test_final_refusals(how: str, status: int, kind: type[BucklerError]) -> None:
    """Once, in the gateway's own words; a 503 that does not say when is final too."""
    with (
        scripted(refuses(status, "the gateway's own sentence"), verdicts) as log,
        pytest.raises(kind, match=r"^the gateway's own sentence$") as caught,
    ):
        ask(log, how)
    assert len(log.requests) == 1
    if kind is GatewayError:
        assert caught.value.status == status  # type: ignore[attr-defined]
        assert [caught.value.request_id] == log.ids  # type: ignore[attr-defined]


@both
def test_a_gateway_that_stays_busy(how: str) -> None:
    steps = [refuses(429, "come again", retry_after="0")] * 4
    with scripted(*steps) as log, pytest.raises(GatewayError, match="come again") as caught:
        ask(log, how, patience=Patience(5.0, tries=3))
    assert (len(log.requests), caught.value.status) == (3, 429)


@both
def test_a_wait_past_the_deadline(how: str) -> None:
    start = time.monotonic()
    with (
        scripted(refuses(429, "later", retry_after="60"), verdicts) as log,
        pytest.raises(GatewayError, match="later"),
    ):
        ask(log, how)
    assert len(log.requests) == 1
    assert time.monotonic() - start < 30


@both
@pytest.mark.parametrize("slow", [silent, trickles])
def test_the_deadline_holds(how: str, slow: Step) -> None:
    """Whether nothing comes or a little at a time."""
    with scripted(slow, slow) as log:
        start = time.monotonic()
        with pytest.raises(GatewayError, match="gave no answer"):
            ask(log, how, patience=Patience(0.3))
        assert time.monotonic() - start < 5
    assert len(log.requests) == 1


@both
@pytest.mark.parametrize(
    "nonsense",
    [
        b"no JSON",
        b"[" * 100_000,
        [],
        {},
        {"outputs": []},
        {"outputs": "x", "parameters": {"bundle": "b", "request_id": "r"}},
        {
            "parameters": {"bundle": "b", "request_id": "r"},
            "outputs": [
                {"name": name, "shape": [1], "datatype": "BYTES", "data": ["GOOD"]}
                for name in ("prediction", "label", "status", "review_id")
            ],
        },
    ],
    ids=["text", "deep", "list", "empty", "no outputs", "words", "another status"],
)
def test_nonsense(how: str, nonsense: object) -> None:
    with (
        scripted(says(200, nonsense), verdicts) as log,
        pytest.raises(GatewayError, match="what a Buckler gateway of this version does not"),
    ):
        ask(log, how)
    assert len(log.requests) == 1


def test_a_page_of_some_proxy() -> None:
    with (
        scripted(says(502, b"<html>Bad Gateway</html>")) as log,
        pytest.raises(GatewayError, match="status 502 and no sentence of a gateway: '<html>"),
    ):
        ask(log, "blocking")


@both
def test_nothing_listens_any_more(how: str) -> None:
    with scripted(resets) as log, pytest.raises(GatewayError, match="gave no answer") as caught:
        ask(log, how, patience=Patience(5.0, tries=2))
    assert caught.value.status == 0


@both
def test_health_is_asked_once(how: str) -> None:
    with scripted(refuses(503, "starting", retry_after="0"), says(200, {})) as log:
        assert ask(log, how, "ready") is False
    assert len(log.requests) == 1
    with scripted(refuses(404, "nothing here")) as log, pytest.raises(UsageError, match="nothing"):
        ask(log, how, "live")


@both
def test_a_decision_is_one(how: str) -> None:
    """However often it is sent; two calls are two, unless they say that they are one."""
    done = says(200, {"state": "decided", "version": 8, "outcome": "accept", "more": 1})
    with scripted(resets, refuses(503, "store", retry_after="0"), done, done, done) as log:
        decided = ask(log, how, "decide", ITEM, "label", label="dog", note="a tail")
        ask(log, how, "decide", ITEM, "accept", key="mine")
        ask(log, how, "decide", ITEM, "accept")
    assert (decided.state, decided.version, decided.outcome) == ("decided", 8, "accept")
    first, *_, mine, other = log.requests
    bodies = [json.loads(request.body) for request in log.requests]
    assert first.path == "/v1/reviews/r1/decision"
    assert bodies[0] == bodies[1] == bodies[2]
    assert {**bodies[0], "key": ""} == {
        "lease_id": "l1",
        "version": 7,
        "kind": "label",
        "label": "dog",
        "note": "a tail",
        "key": "",
    }
    assert bodies[3] == {"lease_id": "l1", "version": 7, "kind": "accept", "key": "mine"}
    assert bodies[4]["key"] not in ("", "mine", bodies[0]["key"])
    assert mine.path == other.path == first.path


@both
def test_undo_is_sent_once(how: str) -> None:
    with (
        scripted(resets, says(200, {})) as log,
        pytest.raises(GatewayError, match="gave no answer"),
    ):
        ask(log, how, "undo", ITEM)
    assert len(log.requests) == 1


REVIEW = {
    "id": "r1",
    "state": "waiting",
    "version": 1,
    "lease_id": "l1",
    "lease_until": 5.0,
    "history": [{"kind": "unsure"}],
    "of a newer gateway": True,
}


@both
@pytest.mark.parametrize(
    ("method", "args", "answer", "path", "found"),
    [
        ("next_review", (), (204, None), "POST /v1/reviews/next", None),
        ("review", ("a/b",), (200, REVIEW), "GET /v1/reviews/a%2Fb", "r1"),
        ("review_input", ("r1",), (200, b"\x89PNG"), "GET /v1/reviews/r1/input", b"\x89PNG"),
        ("first_answer", (ITEM, "dog"), (200, REVIEW), "POST /v1/reviews/r1/first", "r1"),
        ("renew", (ITEM,), (200, {"lease_until": 9}), "POST /v1/reviews/r1/renew", 9.0),
        ("release", (ITEM,), (204, None), "POST /v1/reviews/r1/release", None),
        ("stats", (), (200, {"waiting": 3}), "GET /v1/reviews/stats", {"waiting": 3}),
        (
            "outcome",
            ("r1",),
            (200, {"state": "decided", "outcome": "label", "label": "dog"}),
            "GET /v1/verdicts/r1",
            Outcome("decided", "label", "dog"),
        ),
    ],
)
def test_the_review_api(
    how: str, method: str, args: tuple[Any, ...], answer: tuple[int, Any], path: str, found: object
) -> None:
    with scripted(says(*answer)) as log:
        got = ask(log, how, method, *args)
    assert f"{log.requests[0].method} {log.requests[0].path}" == path
    assert (got.id if isinstance(got, Review) else got) == found


@both
def test_a_review(how: str) -> None:
    with scripted(says(200, REVIEW)) as log:
        item = ask(log, how, "next_review", senior=True)
    assert (item.lease_id, item.lease_until, item.prediction) == ("l1", 5.0, None)
    assert item.history == ({"kind": "unsure"},)
    assert log.requests[0].body == b'{"senior": true}'


@both
def test_export(how: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 4000
    path = tmp_path / "reviews.zip"
    with scripted(half, refuses(403, "not for you"), says(200, content)) as log:
        with pytest.raises(GatewayError, match="gave no answer"):
            ask(log, how, "export", path)
        with pytest.raises(PolicyError, match="not for you"):
            ask(log, how, "export", path)
        assert list(tmp_path.iterdir()) == [], "whole or not at all"
        assert ask(log, how, "export", path, since=1.5) == path
    assert path.read_bytes() == content
    assert [request.path for request in log.requests][2] == "/v1/reviews/export?since=1.500000"
    with scripted(says(200, content)) as log, pytest.raises(DataError, match="cannot be written"):
        ask(log, how, "export", tmp_path / "missing" / "x.zip")


def test_an_id_that_is_another_path() -> None:
    for wrong in ("", ".", ".."):
        with pytest.raises(UsageError, match="a review's id is a word"):
            Client("http://127.0.0.1:9").review(wrong)
