"""The page that says what the gateway answers: complete, without a script, nothing off-origin."""

import re
from html.parser import HTMLParser
from pathlib import Path

from fastapi.testclient import TestClient

from .stored import opened


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in ("href", "src", "action"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")
            assert not name.startswith("on")


def read(text: str) -> _Page:
    found = _Page()
    found.feed(text)
    return found


def test_every_route_and_every_status_is_on_the_page(client: TestClient) -> None:
    contract = client.get("/openapi.json").json()
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    ids = read(page.text).ids
    for path, methods in contract["paths"].items():
        for method, route in methods.items():
            assert f"{method}{path}" in ids
            assert "500" in route["responses"]
            for answer in route["responses"].values():
                assert answer["description"] in page.text.replace("&#39;", "'")


def test_the_review_queue_is_on_the_page(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:
        test_every_route_and_every_status_is_on_the_page(gateway.client)
        page = gateway.client.get("/docs").text
        assert "post/v1/reviews/%7Breview_id%7D/decision" in page


def test_nothing_comes_from_elsewhere(client: TestClient) -> None:
    sent = client.get("/docs")
    assert sent.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    page = read(sent.text)
    assert not {"script", "iframe", "img", "style"} & set(page.tags)
    assert all(link.startswith(("#", "/")) and "//" not in link for link in page.links)
    style = client.get("/docs/style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert not re.search(r"url\(|@import|https?:", style.text)
    assert "color-scheme: light dark" in style.text


def test_what_the_contract_says_is_escaped() -> None:
    from buckler.serve.docs import page

    contract = {
        "info": {"title": "<script>x</script>", "version": "1"},
        "paths": {"/<b>": {"get": {"summary": "&", "responses": {}}}},
    }
    found = page(contract)
    assert "<script>" not in found
    assert "<b>" not in found
