"""The whole life of a bundle, as a user runs it, with a browser open on the dashboard."""

import importlib
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from buckler.store.engine import open_store
from buckler.store.users import add_user
from tests.serve.browser import chromium, log_in, ready

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
EXAMPLES = Path(__file__).parents[2] / "examples"
PASSWORD = "a bundle leaves the harbour"
WIDE, PHONE, TALLEST = 1100, 390, 1500
PAGES = (
    *("", "/attacks", "/confidence", "/rollout", "/load"),
    *("/impact?missed=400&review=2&false_alarm=1", "/alerts", "/clients", "/bundle"),
)


@dataclass
class Camera:
    """Looks at the pages at each station of the story, logged in as olga."""

    page: Any
    folder: Path
    """Of the guides' pictures."""
    aside: Path
    """Of the others."""
    taken: dict[str, str] = field(default_factory=dict)
    """What each picture says, by its name."""
    complaints: list[str] = field(default_factory=list)

    def __call__(self, story: Any, station: str) -> None:
        if not self.taken:
            with closing(open_store(story.store)) as store:
                add_user(store, "olga", PASSWORD, ("operate", "review"), time.time(), "example")
            log_in(self.page, f"{story.url}/login?next=/dashboard", "olga", PASSWORD)
        looks: dict[str, Callable[[str], None]] = {"attacked": self.attack, "end": self.money}
        looks.get(station, lambda url: self.rollout(url, station))(story.url)
        # A page that is open would complain of the gateway's end.
        self.page.goto("about:blank")

    def attack(self, url: str) -> None:
        self.shoot("overview", f"{url}/dashboard?span=minutes")
        self.shoot("attacks", f"{url}/dashboard/attacks?span=minutes", dark=True)
        self.shoot("alert", f"{url}/dashboard/alerts")
        self.shoot("phone", f"{url}/dashboard/alerts", dark=True, width=PHONE)
        self.shoot("suspects", f"{url}/dashboard/clients")
        self.shoot("review", f"{url}/review")
        self.page.get_by_role("button", name="Put it back").click()

    def rollout(self, url: str, state: str) -> None:
        """The first rollout's steps, and the end of each."""
        name = f"rollout-{state.lower()}"
        if name not in self.taken and state not in ("DRAFT", "VALIDATING"):
            self.shoot(name, f"{url}/dashboard/rollout", dark=state == "ROLLED_BACK")

    def money(self, url: str) -> None:
        self.shoot("impact", f"{url}/dashboard/impact?missed=400&review=2&false_alarm=1")
        self.folder = self.aside
        for place in PAGES:
            name = place[1:].partition("?")[0] or "overview"
            self.shoot(f"{name}-phone", f"{url}/dashboard{place}", dark=True, width=PHONE)
            self.shoot(f"{name}-light", f"{url}/dashboard{place}")

    def shoot(self, name: str, place: str, *, dark: bool = False, width: int = WIDE) -> None:
        """A picture of few colours, so that it is small, from the top of the page."""
        page = self.page
        page.emulate_media(color_scheme="dark" if dark else "light")
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(place)
        ready(page)
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, (name, wide)
        drawn = page.locator(".drawn[data-figure]").count()
        assert page.locator(".drawn .main-svg").count() >= drawn, name
        shot = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
        shot = shot.crop((0, 0, shot.width, min(shot.height, TALLEST)))
        shot.quantize(128, dither=Image.Dither.NONE).save(
            self.folder / f"dashboard-{name}.png", optimize=True
        )
        self.taken[name] = page.locator("main").inner_text()


def test_every_promise_is_kept_and_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With SHOTS in the environment, the pictures of the guides go to that folder."""
    monkeypatch.syspath_prepend(EXAMPLES)
    tell = importlib.import_module("operate_end_to_end").tell
    with chromium(WIDE) as page:
        page.set_default_timeout(300_000)  # nothing here depends on how fast the machine is
        camera = Camera(page, Path(os.environ.get("SHOTS", tmp_path)), tmp_path)
        camera.folder.mkdir(parents=True, exist_ok=True)
        page.on("console", lambda said: camera.complaints.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: camera.complaints.append(str(error)))
        broken = tell(tmp_path / "story", camera)
    told = capsys.readouterr().out
    assert broken == [], told
    assert "2 retrains: 1 owed and made, 1 refused" in told
    assert camera.complaints == []
    shows = {
        "overview": "▲ page ○ open",
        "attacks": "▲ page",
        "alert": "Runbook: ",
        "suspects": "Longest run",
        "review": "SUSPICIOUS",
        "rollout-step_10": "10 %",
        "rollout-step_50": "50 %",
        "rollout-step_100": "100 %",
        "rollout-completed": "every step was passed",
        "rollout-rolled_back": "it calls more inputs SUSPICIOUS",
        "impact": "a week saved",
    }
    for name, words in shows.items():
        assert words in camera.taken[name], (name, camera.taken[name])
