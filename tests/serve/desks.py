"""A small gateway of pages only, on a store that is filled by hand, and people who log in."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from torch import nn

from buckler.defenses import Median
from buckler.guard import Guard
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.ops.review import Policy
from buckler.serve.access import Access, gate
from buckler.serve.frame import Frame, put_around
from buckler.serve.observe import Metrics
from buckler.serve.pages import add_pages
from buckler.serve.quota import Quota
from buckler.store.engine import Store
from buckler.store.intake import Item
from buckler.store.users import User, add_user, open_session
from tests.store.made import add, item

from .tiny import SPEC, tiny_guard

SIGNING = (b"the first of the secrets", b"an older one, still good")
WORDS = ("goat", "fox", "owl", "lynx", "crow", "hare", "wolf", "newt", "mole", "elk")
PASSWORD = "correct horse battery"


class Idle:
    """What the metrics read of a runner, where there is none."""

    rows_waiting = bytes_waiting = abandoned = 0
    age = 0.0


def pages_app(
    guard: Guard, store: Store, *, signing: Sequence[bytes] = SIGNING, https: bool = False
) -> FastAPI:
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    put_around(
        app,
        lambda inner: Frame(
            inner,
            metrics=Metrics(Idle(), CollectorRegistry(), lambda: True),
            routes=frozenset(),
            log=None,
            closing=lambda: False,
            https=https,
        ),
    )
    add_pages(app, guard, store, signing=signing, https=https)
    gate(app, Access(None, Quota(), lambda caller: None))
    return app


def with_view() -> Guard:
    """The tiny guard, looking at a median too."""
    return replace(tiny_guard(), views=(Median(3),))


def photos() -> Guard:
    """40 classes with long names, of colour pictures of 224 × 224 pixels."""
    names = tuple(f"{word} of the {n} mountains" for n in range(4) for word in WORDS)
    spec = InputSpec((3, 224, 224), names, levels=256)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Linear(3 * 8 * 8, 40)
    net = nn.Sequential(nn.AvgPool2d(28), nn.Flatten(), linear)
    members = (TorchClassifier(net), TorchClassifier(net))
    two = {"members": members, "weights": (0.5, 0.5), "temperatures": (1.0, 1.0)}
    return replace(tiny_guard(), spec=spec, **two)


def photo(guard: Guard) -> bytes:
    """A smooth colour picture with one odd dot."""
    h, w = torch.meshgrid(torch.linspace(0, 1, 224), torch.linspace(0, 1, 224), indexing="ij")
    x = torch.stack([h, w, (h * 9).sin() * 0.5 + 0.5])
    x[:, 100:103, 60:63] = 1.0
    return guard.spec.encode(x)


def picture(number: int = 0) -> bytes:
    """A PNG of 8 × 8 pixels, another for each number."""
    generator = torch.Generator().manual_seed(number)
    x = torch.rand(1, 8, 8, generator=generator) * 0.3
    x[:, :, :4] += 0.6
    return SPEC.encode(x)


def suspect(guard: Guard, number: int = 0, **more: object) -> Item:
    """An item this guard found SUSPICIOUS, made up."""
    verdict = {
        "prediction": "left",
        "confidence": 0.61,
        "anomaly_score": 0.987,
        "status": "SUSPICIOUS",
        "reasons": ["confidence"],
        "bundle": guard.digest,
    }
    given = {"content": picture(number), "verdict": verdict, **more}
    return item(number, **given)


def fill(store: Store, guard: Guard, count: int, policy: Policy | None = None) -> list[str]:
    """That many items, each a minute older than the one before; the oldest comes first."""
    names = []
    for number in range(count):
        at = time.time() - 60 * (count - number) - 10
        names += add(store, suspect(guard, number), now=at, policy=policy)
    return names


def person(
    store: Store, name: str = "ann", *, roles: Sequence[str] = ("review",), **more: bool
) -> User:
    return add_user(store, name, PASSWORD, roles, time.time(), "test", **more)


@contextmanager
def logged_in(app: FastAPI, store: Store, user: User) -> Iterator[TestClient]:
    """A browser with this person's cookie, without the wait for their password."""
    token = open_session(store, user, time.time(), SIGNING)
    with TestClient(app, cookies={"buckler": token}, follow_redirects=True) as client:
        yield client


def store_in(folder: Path) -> Store:
    from buckler.store.engine import open_store

    return open_store(f"sqlite:///{folder}/store.db")
