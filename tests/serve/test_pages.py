"""The pages of the queue: each works as plain HTML, escapes what came from outside, and tells a
blind reviewer nothing."""

import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from buckler.guard import Guard
from buckler.inputs import InputSpec
from buckler.ops.review import Policy
from buckler.serve.screen import choices, percent, span
from buckler.store.engine import Store
from buckler.store.known import Known, seed
from buckler.store.reviews import claim
from buckler.store.shared import set_policy
from buckler.store.tables import decisions, reviews
from tests.store.made import add

from .desks import fill, logged_in, pages_app, person, picture, suspect, with_view
from .tiny import tiny_guard

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"


@pytest.fixture
def guard() -> Guard:
    return with_view()


@pytest.fixture
def client(guard: Guard, store: Store) -> Iterator[TestClient]:
    with logged_in(pages_app(guard, store), store, person(store)) as client:
        yield client


class Parsed(HTMLParser):
    """Tags, attributes and the forms of a page, as a browser without JavaScript has them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.forms: dict[str, dict[str, str]] = {}
        self._form: dict[str, str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += given.items()
        if tag == "form":
            self._form = self.forms.setdefault(given.get("action", ""), {})
        if "formaction" in given and self._form is not None:
            self.forms[given["formaction"]] = self._form
        if tag == "input" and given.get("type") == "hidden" and self._form is not None:
            self._form[given["name"]] = given["value"]

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None


def send(client: TestClient, text: str, action: str, **fields: str) -> str:
    """Fill in the page's own form of that action; the page that comes."""
    form = Parsed(text).forms[action]
    return client.post(action, data={**form, **fields}).text


def heading(text: str) -> str:
    found = re.search("<h1>(.*?)</h1>", text)
    assert found
    return re.sub("<.*?>", "", found[1])


def made(store: Store) -> list[tuple[str, str | None, str]]:
    with store.read() as connection:
        order = sa.select(decisions).where(decisions.c.undone.is_(None)).order_by(decisions.c.at)
        return [(d.kind, d.label, d.note) for d in connection.execute(order)]


def test_a_day_without_javascript(client: TestClient, store: Store, guard: Guard) -> None:
    names = fill(store, guard, 6)
    page = client.get("/review").text
    assert heading(page) == f"Item {names[0][:8]}"
    assert "Accept: it is left" in page
    page = send(
        client, page, f"/review/{names[0]}/decide", kind="accept", note="clear", label="right"
    )
    assert "You accepted the machine’s answer" in page
    assert heading(page) == f"Item {names[1][:8]}"
    page = send(client, page, f"/review/{names[0]}/undo")
    assert heading(page) == f"Item {names[0][:8]}"
    assert made(store) == []
    page = send(client, page, f"/review/{names[0]}/decide", kind="label", label="right")
    page = send(client, page, f"/review/{names[1]}/renew")
    assert "Yours for" in page
    page = send(client, page, f"/review/{names[1]}/decide", kind="adversarial", label="")
    page = send(client, page, f"/review/{names[2]}/decide", kind="adversarial", label="even")
    page = send(client, page, f"/review/{names[3]}/decide", kind="corrupted")
    page = send(client, page, f"/review/{names[4]}/decide", kind="unsure")
    assert heading(send(client, page, f"/review/{names[5]}/release")) == "Queue"
    page = send(client, client.get("/review").text, f"/review/{names[5]}/decide", kind="accept")
    assert heading(page) == "Nothing waits for you"
    assert [(kind, label) for kind, label, _ in made(store)] == [
        *(("label", "right"), ("adversarial", None), ("adversarial", "even")),
        *(("corrupted", None), ("unsure", None), ("accept", None)),
    ]
    decided = client.get(f"/review/{names[0]}").text
    assert "Decided: label, <b>right</b>" in decided
    assert "accepted the machine’s answer" in decided
    assert "<q>clear</q>" in decided
    assert "/decide" not in decided


def test_what_cannot_be_is_a_sentence_and_a_way_on(
    client: TestClient, store: Store, guard: Guard
) -> None:
    names = fill(store, guard, 2)
    page = client.get("/review").text
    action = f"/review/{names[0]}/decide"
    for fields, sentence in (
        ({"kind": "label", "label": "cat"}, "There is no class &#39;cat&#39;"),
        ({"kind": "label"}, "The decision label needs the true class"),
        ({"kind": "perhaps"}, "A decision must be one of accept, label"),
        ({"kind": "accept", "version": "x"}, "This form is not whole"),
        ({"kind": "accept", "version": "7"}, "changed: it is at version 1"),
        ({"kind": "accept", "lease_id": "another"}, "The lease on"),
        ({"kind": "accept", "note": "x" * 4001}, "A note may have 4000 characters"),
    ):
        told = send(client, page, action, **fields)
        assert sentence in told, told
        assert '<a class="button main" href="/review" rel="next"' in told
    assert made(store) == []
    send(client, page, action, kind="accept")
    assert "You accepted" in send(client, page, action, kind="accept"), "sent twice, decided once"
    assert "You decided this item before: you accepted" in send(
        client, page, action, kind="corrupted"
    )
    assert len(made(store)) == 1
    for odd in ("%00", "a%00", "%F0%9F%A6%8A", "%ff", "a" * 65):
        assert client.get(f"/review/{odd}").status_code == 404
        assert client.get(f"/review?after={odd}").status_code == 200
    for place in ("/review/none", "/review/none/input", f"/review/{names[0]}/picture/2"):
        assert client.get(place).status_code == 404
    for number in ("x", "-1", "9" * 30, "²"):
        assert client.get(f"/review/{names[0]}/picture/{number}").status_code == 404
    late = f"/review/{names[1]}/renew"
    with store.write() as connection:
        connection.execute(sa.update(reviews).values(lease_until=time.time() - 1))
    page = client.get("/review").text
    with store.write() as connection:
        connection.execute(sa.update(reviews).values(lease_until=time.time() - 1))
    assert "The lease on" in send(client, page, late)


def test_nothing_from_outside_becomes_markup(store: Store) -> None:
    names = ("left", EVIL, "even")
    spec = replace(tiny_guard().spec, class_names=names)
    guard = replace(with_view(), spec=spec)
    user = person(store, EVIL)
    verdict = {**suspect(guard).verdict, "prediction": EVIL, "reasons": [EVIL], "status": EVIL}
    more = {"key_id": EVIL, "verdict": verdict, "risk": 1.0}
    alike = [suspect(guard, n, fingerprint="0" * 16, **more) for n in (1, 2)]
    add(store, *alike, suspect(guard, 3, key_id=EVIL), now=time.time() - 50)
    with logged_in(pages_app(guard, store), store, user) as client:
        page = client.get("/review").text
        pages = [page, client.get("/queue").text]
        (action,) = [a for a in Parsed(page).forms if a.endswith("/decide")]
        pages.append(send(client, page, action, kind="label", label=EVIL, note=EVIL))
        pages.append(client.get(action.removesuffix("/decide")).text)
        pages.append(client.get(f"/review/{EVIL}").text)
        pages.append(client.get("/login", params={"next": EVIL}).text)
        pages.append(send(client, client.get("/review").text, _decide(client), kind=EVIL))
    for text in pages:
        parsed = Parsed(text)
        assert "<script>alert" not in text
        assert parsed.tags.count("script") <= 1
        assert not [v for n, v in parsed.attributes if n.startswith("on") or n == "style"]
        assert all(
            v.startswith("/")
            for n, v in parsed.attributes
            if n in ("src", "href", "action") and v != "#main"
        )
    assert "&lt;script&gt;alert(1)" in pages[3]
    assert EVIL not in pages[3]


def _decide(client: TestClient) -> str:
    (action,) = [a for a in Parsed(client.get("/review").text).forms if a.endswith("/decide")]
    return action


def test_the_browser_may_load_what_is_ours_alone(
    client: TestClient, store: Store, guard: Guard
) -> None:
    (name,) = fill(store, guard, 1)
    for place in ("/queue", "/review", "/login", "/review/none", f"/review/{name}"):
        sent = client.get(place)
        policy = sent.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert sent.headers["cache-control"] == "no-store"
        assert not {"style", "iframe", "object"} & set(Parsed(sent.text).tags)
    for name_, kind in (("page.css", "css"), ("page.js", "javascript"), ("icon.svg", "svg")):
        sent = client.get(f"/assets/{name_}")
        assert kind in sent.headers["content-type"]
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import", sent.text)
    for odd in ("review.html", "..%2Fpages.py", "x"):
        assert client.get(f"/assets/{odd}").status_code == 404


def test_a_blind_reviewer_sees_nothing_of_the_machines(store: Store) -> None:
    spec = replace(tiny_guard().spec, class_names=("left", "right", "even"))
    guard = replace(with_view(), spec=spec)
    set_policy(store, Policy(blind=True, agree=2, of=2), time.time(), "test")
    verdict = {
        **suspect(guard).verdict,
        "confidence": 0.61234,
        "anomaly_score": 0.98765,
        "reasons": ["oddity"],
    }
    (name,) = add(store, suspect(guard, verdict=verdict, risk=0.77), now=time.time() - 50)
    app = pages_app(guard, store)
    with logged_in(app, store, person(store, "bob")) as client:
        page = client.get("/review").text
        page = send(client, page, f"/review/{name}/first", label="even")
        send(client, page, f"/review/{name}/decide", kind="adversarial", note="his note")
    with logged_in(app, store, person(store, "ann")) as client:
        for place in ("/review", f"/review/{name}", "/queue"):
            page = client.get(place).text
            for told in (
                "61.2",
                "0.988",
                "oddity",
                "SUSPICIOUS",
                "0.77",
                "median3",
                "Votes",
                "bob</b>",
                "his note",
                "adversarial",
                "difference",
            ):
                shown = told in page.replace("SUSPICIOUS rows and on ACCEPTED", "").replace(
                    "adversarial: then the class", ""
                )
                assert not shown, (place, told)
        page = client.get("/review").text
        assert client.get(f"/review/{name}/picture/0").status_code == 200
        for hidden in ("picture/1", "difference/1"):
            assert client.get(f"/review/{name}/{hidden}").status_code == 404
        before = Parsed(page).forms[f"/review/{name}/first"]
        sent = client.post(
            f"/review/{name}/decide", data={**before, "version": "2", "kind": "accept"}
        )
        assert sent.status_code == 400
        assert "give your own label before you decide" in sent.text
        assert (
            "there is no class" in send(client, page, f"/review/{name}/first", label="cat").lower()
        )
        after = send(client, page, f"/review/{name}/first", label="cannot tell")
    for told in ("61.2", "0.988", "oddity", "SUSPICIOUS", "median3", "Votes", "bob", "his note"):
        assert told in after, told


def test_an_item_whose_answer_is_known_looks_like_any_other(
    client: TestClient, store: Store, guard: Guard
) -> None:
    fill(store, guard, 1)
    plain = client.get("/review").text
    known = Known(picture(5), "image/png", dict(suspect(guard).verdict), "label", "right")
    (other,) = seed(store, [known], time.time() - 70, "test")
    with store.write() as connection:
        connection.execute(
            sa.update(reviews).values(lease_id=None, lease_by=None, lease_until=None)
        )
        mine = sa.update(reviews).where(reviews.c.id == other)
        held = {"lease_id": "1" * 16, "lease_by": "ann", "lease_until": time.time() + 600}
        connection.execute(mine.values(**held, risk=0.5, due=time.time() + 86_300))
    seen = client.get("/review").text

    def shape(text: str) -> str:
        return re.sub(r"[0-9a-f]{8,}(\.[0-9a-f]+)?|\d+(\.\d+)?", "#", text)

    assert shape(seen) == shape(plain)


def test_who_does_not_hold_it_reads_it(client: TestClient, store: Store, guard: Guard) -> None:
    (name,) = fill(store, guard, 1)
    person(store, "bob")
    claim(store, "bob", time.time(), Policy())
    page = client.get(f"/review/{name}").text
    assert "bob holds this item" in page
    assert "/decide" not in page
    assert "lease_id" not in page
    assert heading(client.get("/review").text) == "Nothing waits for you"
    assert "bob" in client.get("/queue").text


def test_a_group_is_shown_and_decided_together_only_if_asked(
    client: TestClient, store: Store, guard: Guard
) -> None:
    rows = [suspect(guard, n, fingerprint="0" * 16, key_id="shop") for n in range(4)]
    names = add(store, *rows, now=time.time() - 50)
    page = client.get("/review").text
    (leader,) = [n for n in names if f"/review/{n}/decide" in page]
    for behind in set(names) - {leader}:
        assert f'href="/review/{behind}"' in page
    assert "For all 3 that stand behind it" in page
    assert "<td>shop</td><td>3</td>" in client.get("/queue").text
    page = send(client, page, f"/review/{leader}/decide", kind="accept")
    (second,) = [n for n in names if f"/review/{n}/decide" in page]
    page = send(client, page, f"/review/{second}/decide", kind="accept", group="yes")
    assert heading(page) == "Nothing waits for you"
    assert len(made(store)) == 2


def test_another_bundles_item_shows_what_was_kept_and_no_more(
    client: TestClient, store: Store, guard: Guard
) -> None:
    verdict = {**suspect(guard).verdict, "bundle": "f" * 64, "prediction": "dog"}
    (name,) = add(store, suspect(guard, verdict=verdict), now=time.time() - 50)
    page = client.get("/review").text
    assert "This item was judged by the bundle <code>ffffffffffff</code>" in page
    assert "Accept: it is dog" in page
    assert "median3" not in page
    assert "Votes" not in page
    assert 'name="label" list="names"' in page
    page = send(client, page, f"/review/{name}/decide", kind="label", label="wolf")
    assert made(store) == [("label", "wolf", "")]


def test_an_input_that_cannot_be_shown_can_still_be_decided(
    client: TestClient, store: Store, guard: Guard
) -> None:
    (name,) = add(store, suspect(guard, content=b"no picture"), now=time.time() - 50)
    page = client.get("/review").text
    assert "The input cannot be shown: the body must be an image" in page
    assert client.get(f"/review/{name}/picture/0").status_code == 400
    kept = client.get(f"/review/{name}/input")
    assert kept.content == b"no picture"
    assert kept.headers["content-disposition"] == f'attachment; filename="{name}.png"'
    assert kept.headers["content-type"] == "application/octet-stream"
    assert kept.headers["x-content-type-options"] == "nosniff"
    with store.write() as connection:
        connection.execute(sa.update(reviews).values(blob=None))
    page = client.get("/review").text
    assert "this input was removed" in page
    send(client, page, f"/review/{name}/decide", kind="corrupted")
    assert len(made(store)) == 1


def test_numbers_stand_in_a_list(store: Store) -> None:
    guard = replace(tiny_guard(), spec=InputSpec((64,), ("left", "right", "even"), (-10.0, 10.0)))
    content = np.arange(64, dtype=np.float32) / 8
    stream = io.BytesIO()
    np.save(stream, content)
    npy = {"content": stream.getvalue(), "media_type": "application/x-npy"}
    as_json = {"content": str(content.tolist()).encode(), "media_type": "application/json"}
    with logged_in(pages_app(guard, store), store, person(store)) as client:
        for number, given in enumerate((npy, as_json)):
            (name,) = add(store, suspect(guard, number, **given), now=time.time() - 50)
            page = client.get(f"/review/{name}").text
            assert '<li value="63"><span class="soft">63</span> 7.875</li>' in page
            assert "<img" not in page
            assert "Votes" in page


def test_a_store_that_is_down_is_a_sentence(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from buckler.errors import StoreDownError

    def down(*_: object, **__: object) -> None:
        raise StoreDownError("the store cannot be used now: disk I/O error")

    monkeypatch.setattr("buckler.serve.reviewing.claim", down)
    sent = client.get("/review")
    assert sent.status_code == 503
    assert "The store cannot be used now: disk I/O error." in sent.text

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret inside")

    monkeypatch.setattr("buckler.serve.reviewing.claim", broken)
    sent = client.get("/review")
    assert sent.status_code == 500
    assert "secret inside" not in sent.text
    assert "its log has the reason" in sent.text


def test_the_queue_counts(client: TestClient, store: Store, guard: Guard) -> None:
    fill(store, guard, 3)
    known = Known(picture(5), "image/png", dict(suspect(guard).verdict), "label", "right")
    seed(store, [known], time.time(), "test")
    page = client.get("/queue").text
    assert "<dt>Waiting</dt><dd>3</dd>" in page
    assert '<th scope="row">confidence</th><td>3</td>' in page
    text = client.get("/review").text
    (action,) = [a for a in Parsed(text).forms if a.endswith("/decide")]
    send(client, text, action, kind="accept")
    page = client.get("/queue").text
    assert "<dt>Waiting</dt><dd>2</dd>" in page
    assert '<th scope="row">ann</th><td>1</td><td>not measured</td>' in page
    assert '<th scope="row">accept</th><td>1</td>' in page


def test_each_class_has_a_key_of_its_own() -> None:
    assert [c.key for c in choices(tuple("0123456789"))] == list("0123456789")
    assert [c.key for c in choices(("cat", "dog"))] == ["1", "2"]
    many = choices([f"class {n}" for n in range(36)])
    assert len({c.key for c in many}) == 36
    assert {c.key for c in choices([f"class {n}" for n in range(37)])} == {""}
    assert [c.key for c in choices(("a", "A"))] == ["1", "2"]
    assert percent(float("nan")) == "no number"
    assert [span(s) for s in (-5, 119, 120, 7199, 7200, 172_799, 172_800)] == [
        *("0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"),
    ]
