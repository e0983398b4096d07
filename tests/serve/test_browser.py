"""The pages in a real browser without a network: ten items by keyboard, nothing off-origin."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from buckler.guard import Guard
from buckler.ops.review import Policy
from buckler.store.engine import Store
from buckler.store.shared import set_policy
from buckler.store.tables import decisions, first_answers
from tests.store.made import add

from .browser import chromium, log_in, ready, served
from .desks import (
    PASSWORD,
    fill,
    pages_app,
    person,
    photo,
    photos,
    suspect,
    with_view,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def guard(request: pytest.FixtureRequest) -> Guard:
    """The one a test asks for, else the tiny one."""
    made: Callable[[], Guard] = getattr(request, "param", with_view)
    return made()


@pytest.fixture
def url(guard: Guard, store: Store) -> Iterator[str]:
    with served(pages_app(guard, store)) as place:
        yield place


@dataclass
class Browser:
    """A page, and what it asked for and complained of."""

    page: Any
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def ready(self) -> None:
        ready(self.page)

    def log_in(self) -> None:
        log_in(self.page, f"{self.url}/review", "ann", PASSWORD)

    def press(self, *keys: str) -> None:
        """Keys that send something: the last one opens another page."""
        for key in keys[:-1]:
            self.page.keyboard.press(key)
        with self.page.expect_navigation(timeout=20_000):
            self.page.keyboard.press(keys[-1])
        self.ready()

    def heading(self) -> str:
        return str(self.page.locator("h1").inner_text())


@pytest.fixture
def browser(url: str) -> Iterator[Browser]:
    with chromium(1200) as page:
        found = Browser(page, url)
        page.on("request", lambda request: found.asked.append(request.url))
        page.on("console", lambda said: found.complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        yield found


def test_ten_items_by_keyboard_and_nothing_off_origin(
    browser: Browser, store: Store, guard: Guard
) -> None:
    person(store)
    names = fill(store, guard, 10)
    browser.log_in()
    for keys in (
        *("a", "l2", "x3", "c", "u", "a", "l1"),
        *(("x", "Enter"), "a"),
    ):
        browser.press(*keys)
    browser.press("z")
    assert browser.heading() == f"Item {names[8][:8]}"
    browser.press("l", "3")
    browser.press("c")
    assert browser.heading() == "Nothing waits for you"
    browser.press("n")
    with store.read() as connection:
        standing = sa.select(decisions).where(decisions.c.undone.is_(None))
        made = {d.review_id: (d.kind, d.label) for d in connection.execute(standing)}
    assert [made[name] for name in names] == [
        *(("accept", None), ("label", "right"), ("adversarial", "even"), ("corrupted", None)),
        *(("unsure", None), ("accept", None), ("label", "left"), ("adversarial", None)),
        *(("label", "even"), ("corrupted", None)),
    ]
    assert browser.complaints == []
    assert len(browser.asked) > 40
    assert all(each.startswith(browser.url) for each in browser.asked)


def test_a_held_key_and_a_key_too_many_decide_nothing(
    browser: Browser, store: Store, guard: Guard
) -> None:
    person(store)
    fill(store, guard, 3)
    browser.log_in()
    browser.page.keyboard.down("a")
    for _ in range(20):
        browser.page.keyboard.down("a")
    browser.page.wait_for_url("**/review?after=*")
    browser.ready()
    browser.page.keyboard.press("Control+a")
    browser.page.get_by_label("Note").fill("all acxzu")
    browser.page.keyboard.press("Escape")
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(decisions)) == 1
    browser.page.keyboard.press("?")
    assert browser.page.get_by_role("dialog", name="Keys").is_visible()
    browser.page.get_by_label("Single keys decide").uncheck()
    browser.page.keyboard.press("Escape")
    browser.page.keyboard.press("a")
    time.sleep(0.2)
    with store.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(decisions)) == 1
    assert browser.complaints == []


def test_a_blind_item_by_keyboard(browser: Browser, store: Store, guard: Guard) -> None:
    person(store)
    set_policy(store, Policy(blind=True), time.time(), "test")
    fill(store, guard, 2)
    browser.log_in()
    assert "SUSPICIOUS" not in browser.page.content()
    browser.press("l", "2")
    assert "SUSPICIOUS" in browser.page.content()
    browser.press("a")
    browser.press("u")
    browser.press("c")
    with store.read() as connection:
        given = sorted(connection.scalars(sa.select(first_answers.c.label)))
    assert given == ["cannot tell", "right"]


def test_the_lease_is_renewed_while_somebody_works_and_told_when_it_ends(
    browser: Browser, store: Store, guard: Guard
) -> None:
    person(store)
    set_policy(store, Policy(lease_s=4.0), time.time(), "test")
    fill(store, guard, 1)
    browser.log_in()
    end = time.monotonic() + 6
    while time.monotonic() < end:
        browser.page.mouse.move(100 + time.monotonic() % 50, 200)
        time.sleep(0.1)
    assert any(each.endswith("/renew") for each in browser.asked)
    assert browser.page.locator("#left").inner_text() != "0:00"
    browser.page.get_by_text("Your time with this item ended").wait_for(timeout=15_000)
    browser.press("n")
    assert browser.heading().startswith("Item")


def test_how_it_looks(browser: Browser, store: Store, guard: Guard, tmp_path: Path) -> None:
    """Nothing is wider than a narrow screen. SHOTS names a folder to keep the pictures."""
    folder = Path(os.environ.get("SHOTS", tmp_path))
    person(store)
    fill(store, guard, 3)
    alike = [suspect(guard, n, fingerprint="0" * 16, risk=1.0, key_id="shop") for n in range(9, 15)]
    add(store, *alike, now=time.time() - 900)
    page = browser.page
    page.goto(f"{browser.url}/login")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.screenshot(path=folder / f"login-{scheme}.png")
    browser.log_in()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1200, 360):
            page.set_viewport_size({"width": width, "height": 900})
            for place in ("queue", "review"):
                page.goto(f"{browser.url}/{place}")
                browser.ready()
                page.screenshot(path=folder / f"{place}-{scheme}-{width}.png", full_page=True)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, (place, width, wide)
    browser.press("a")
    page.screenshot(path=folder / "after.png")
    page.keyboard.press("l")
    page.screenshot(path=folder / "choosing.png", full_page=True)
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.screenshot(path=folder / "keys.png")
    page.goto(f"{browser.url}/review/none")
    page.screenshot(path=folder / "told.png")


@pytest.mark.parametrize("guard", [photos], indirect=True)
def test_many_classes_are_found_by_typing(
    browser: Browser, store: Store, guard: Guard, tmp_path: Path
) -> None:
    folder = Path(os.environ.get("SHOTS", tmp_path))
    person(store)
    verdict = {**suspect(guard).verdict, "prediction": "lynx of the 2 mountains"}
    for number in range(3):
        row = suspect(guard, number, content=photo(guard), verdict=verdict)
        add(store, row, now=time.time() - 100 + number)
    browser.log_in()
    page = browser.page
    for width in (1200, 360):
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=folder / f"photo-{width}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size({"width": 1200, "height": 900})
    page.keyboard.press("l")
    page.keyboard.type("owl")
    page.keyboard.press("Enter")
    page.get_by_text("No class, or more than one, begins so").wait_for()
    page.keyboard.type(" of the 3")
    page.screenshot(path=folder / "typing.png")
    browser.press("Enter")
    browser.press("x", "Enter")
    page.keyboard.press("x")
    page.keyboard.type("NEWT of the 0")
    browser.press("Enter")
    with store.read() as connection:
        made = connection.execute(sa.select(decisions).order_by(decisions.c.at))
        assert [(d.kind, d.label) for d in made] == [
            ("label", "owl of the 3 mountains"),
            ("adversarial", None),
            ("adversarial", "newt of the 0 mountains"),
        ]
    assert browser.complaints == []


def test_every_control_has_a_name_and_the_order_of_the_eye(
    browser: Browser, store: Store, guard: Guard
) -> None:
    person(store)
    fill(store, guard, 2)
    browser.log_in()
    page = browser.page
    for place in ("queue", "review", "login"):
        page.goto(f"{browser.url}/{place}")
        unnamed = page.evaluate(
            """[...document.querySelectorAll("a, button, input:not([type=hidden]), textarea, img")]
            .filter((each) => each.checkVisibility())
            .filter((each) => !(each.textContent.trim() || each.alt || each.ariaLabel
                || (each.labels && each.labels.length) || each.querySelector("img[alt]")))
            .map((each) => each.outerHTML)"""
        )
        assert unnamed == [], place
        assert page.locator("h1").count() == 1
    page.goto(f"{browser.url}/review")
    browser.ready()
    reached = []
    for _ in range(24):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("document.activeElement.innerText || document.activeElement.value || ''")
        )
    names = ["Skip to the content", "Review", "Queue", "Log out", "Keep it", "Put it back"]
    assert reached[: len(names)] == names
    order = [
        r
        for r in reached
        if r.startswith(("Accept", "Corrupted", "Unsure", "It is", "Adversarial"))
    ]
    assert [name.split()[0] for name in order] == [
        "Accept:",
        "Corrupted",
        "Unsure",
        "It",
        "Adversarial,",
    ]
