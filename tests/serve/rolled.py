"""Bundles that are quickly made, ruled on, and alike or not; and a gateway on a store that rolls
from one to another."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient

from buckler.data import SPLITS, Dataset, Split
from buckler.detectors.confidence import Confidence
from buckler.guard import Guard, load_bundle, write_bundle
from buckler.guard.bundle import MemberSource
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.models.nets import digits_cnn
from buckler.serve import create_app
from buckler.serve.golden import write_golden
from buckler.serve.rolling import Rolling
from buckler.store.engine import Store, open_store

from .stored import new_key, url_in
from .tiny import settings

SPEC = InputSpec((1, 8, 8), tuple("0123456789"), levels=256)
ALL = (1e9,)  # a threshold over every score: nothing is SUSPICIOUS
NONE = (-1e9,)


def bundle(
    path: Path,
    limits: tuple[float, ...] = ALL,
    *,
    name: str = "plain",
    spec: InputSpec = SPEC,
    ruling: dict[str, object] | None = None,
    golden: int = 40,
) -> str:
    """Write one; all of them have the same net. Returns: its digest."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = digits_cnn()
    guard = Guard(
        spec=spec,
        members=(TorchClassifier(net),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds(limits, 0),
    )
    empty = Split(torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64), ())
    data = Dataset("none", spec, dict.fromkeys(SPLITS, empty), 0)
    factory = "buckler.models.nets:digits_cnn"
    digest = write_bundle(guard, data, [MemberSource(name, factory)], path)
    says = {"schema": "buckler.ruling/1", "digest": digest, "passed": True, "at": time.time()}
    (path / "evidence").mkdir(exist_ok=True)
    (path / "evidence" / "ruling.json").write_text(json.dumps({**says, **(ruling or {})}))
    if golden:
        x = torch.rand(golden, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        y = guard.answer(spec.snap(x))[0]
        write_golden(path, x, y, torch.arange(golden) % 2 == 0)
    return digest


def image(number: int) -> dict[str, object]:
    """The body of a request, another for each number."""
    generator = torch.Generator().manual_seed(number)
    return {"rows": SPEC.snap(torch.rand(1, 1, 8, 8, generator=generator)).tolist()}


@dataclass
class Rolled:
    """A gateway; `look` is a round of its loop, which does not run by itself."""

    app: FastAPI
    client: TestClient
    store: Store
    loop: Rolling
    keys: list[str] = field(default_factory=list)

    def look(self) -> None:
        self.loop._stepped = float("-inf")
        self.loop.round()

    def ask(self, number: int = 0, key: int = 0) -> dict[str, Any]:
        headers = {"x-api-key": self.keys[key]}
        found = self.client.post("/v1/classify", json=image(number), headers=headers)
        return {"status": found.status_code, **found.json()}


@contextmanager
def rolled(folder: Path, source: Path, *, clients: int = 1, **given: object) -> Iterator[Rolled]:
    chosen = settings(**{"store": url_in(folder), "accepted_sample": 0, **given})
    beside = open_store(url_in(folder))
    keys = [new_key(beside) for _ in range(clients)]
    app = create_app(load_bundle(source), chosen, log=False, bundle=source)
    loop = app.state.runner.rolling
    loop._every_s = 3600.0
    with TestClient(app, headers={"x-api-key": keys[0]}) as client:
        yield Rolled(app, client, beside, loop, keys)
    beside.close()
