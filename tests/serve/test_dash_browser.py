"""The dashboard in a real browser without a network: each page, wide and narrow, light and dark."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buckler.serve import create_app
from buckler.store.engine import Store, open_store
from buckler.store.users import add_user

from .browser import chromium, log_in, ready, served
from .dashed import EVIL, fill
from .desks import PASSWORD
from .stored import new_key, url_in
from .tiny import CLASSIFY, LEFT, body, settings, tiny_guard

pytestmark = pytest.mark.slow
PAGES = ("", "attacks", "confidence", "rollout", "load", "impact", "alerts", "clients", "bundle")
SCHEMES = ("light", "dark")
PRICES = "?missed=400&review=2&false_alarm=1"


@pytest.fixture
def filled(tmp_path: Path) -> tuple[Store, str]:
    """A store, and a key that may classify."""
    store = open_store(url_in(tmp_path))
    # Long enough ago that nothing leaves the last minute while a test looks at it.
    fill(store, time.time() - 120, os.environ.get("OUTSIDE", EVIL))
    add_user(store, "olga", PASSWORD, ("operate", "review"), time.time(), "test")
    return store, new_key(store, "infer")


@pytest.fixture
def key(filled: tuple[Store, str]) -> str:
    return filled[1]


@pytest.fixture
def url(filled: tuple[Store, str], tmp_path: Path) -> Iterator[str]:
    store = filled[0]
    app = create_app(tiny_guard(), settings(store=url_in(tmp_path)), log=False, store=store)
    with served(app) as place:
        yield place


@pytest.fixture
def page(url: str) -> Iterator[Any]:
    with chromium() as page:
        log_in(page, f"{url}/login?next=/dashboard", "olga", PASSWORD)
        yield page


def test_each_page_wide_and_narrow_light_and_dark(page: Any, url: str) -> None:
    """With SHOTS in the environment, pictures of the pages go to that folder."""
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: complaints.append(f"{said.type}: {said.text}"))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    shots = os.environ.get("SHOTS", "")
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 900})
            for name in PAGES:
                page.goto(
                    f"{url}/dashboard/{name}".rstrip("/") + (PRICES if name == "impact" else "")
                )
                ready(page)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (name, width, wide)
                drawn = page.locator(".drawn").count()
                assert page.locator(".drawn .main-svg").count() >= drawn, name
                if shots:
                    path = f"{shots}/dashboard-{name or 'overview'}-{scheme}-{width}.png"
                    page.screenshot(path=path, full_page=True)
    assert complaints[:5] == []
    assert all(each.startswith(url) for each in asked)


def test_a_verdict_changes_the_page_that_is_open(page: Any, url: str, key: str) -> None:
    page.wait_for_selector("html[data-live=yes]", timeout=20_000)
    before = int(page.locator("[data-live=minute]").inner_text())
    headers = {"x-api-key": key}
    answer = page.request.post(f"{url}{CLASSIFY}", data=body(LEFT, LEFT, LEFT), headers=headers)
    assert answer.status == 200
    page.wait_for_selector(f'[data-live=minute]:text-is("{before + 3}")', timeout=20_000)
