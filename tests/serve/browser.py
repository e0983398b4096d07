"""A real browser, and a server for it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

CHROMIUM = "/usr/bin/chromium"


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Where the app answers, on a port of its own."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()


@contextmanager
def chromium(width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A page of Debian's Chromium; skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not Path(CHROMIUM).exists():
        pytest.skip(f"chromium is not installed: {CHROMIUM}")
    flags = ["--no-sandbox", "--disable-background-networking"]
    with api.sync_playwright() as tool:
        program = tool.chromium.launch(executable_path=CHROMIUM, args=flags)
        try:
            yield program.new_page(viewport={"width": width, "height": height})
        finally:
            program.close()


def log_in(page: Any, place: str, name: str, password: str) -> None:
    """Through the form that stands at this address, until the page behind it is ready."""
    page.goto(place)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.keyboard.press("Enter")
    ready(page)


def ready(page: Any) -> None:
    page.wait_for_selector("html[data-ready=yes]")
