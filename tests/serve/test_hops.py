"""What the event loop parses itself, and what goes to a thread because it takes long."""

import io
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from buckler import wire
from buckler.inputs import InputSpec
from buckler.serve import create_app
from buckler.serve.body import QUICK, QUICK_BINARY, Intake
from buckler.serve.queue import Entry, Queue

from .tiny import Scripted, settings

LARGE = InputSpec((3, 224, 224), ("left", "right", "even"), levels=256, resize="area")
INFER = "/v2/models/buckler/infer"


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry a parse that went to a thread."""
    seen: list[int] = []
    before = Intake.in_thread

    async def counted(self: Intake, parse: Any, until: float) -> Any:
        seen.append(1)
        return await before(self, parse, until)

    monkeypatch.setattr(Intake, "in_thread", counted)
    return seen


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = create_app(Scripted(spec=LARGE), settings(), log=False)  # type: ignore[arg-type]
    with TestClient(app) as client:
        yield client


def post(client: TestClient, x: np.ndarray, binary: bool = True) -> int:
    body, headers = wire.infer_request({"input": x}, binary=binary).frame()
    return int(client.post(INFER, content=body, headers=headers).status_code)


def test_numbers_in_binary_stay(client: TestClient, hops: list[int]) -> None:
    x = np.zeros((1, *LARGE.shape), np.float32)
    assert x.nbytes > QUICK
    assert post(client, x) == 200
    raw = client.post(INFER, content=x.tobytes(), headers={wire.HEADER_LENGTH: "0"})
    assert raw.status_code == 200
    assert hops == []


def test_what_takes_long_goes_to_a_thread(client: TestClient, hops: list[int]) -> None:
    many = np.zeros((2, *LARGE.shape), np.float32)
    assert many.nbytes > QUICK_BINARY
    file = np.array([LARGE.encode(torch.zeros(LARGE.shape))], object)
    for number, (x, binary) in enumerate(
        [(many, True), (many[:1], False), (file, True), (file, False)], 1
    ):
        assert post(client, x, binary) == 200
        assert len(hops) == number


@pytest.mark.parametrize("length", ["70000", "9" * 30, "x", None])
def test_much_json_is_not_parsed_by_the_loop(
    client: TestClient, hops: list[int], length: str | None
) -> None:
    body = orjson.dumps({"inputs": [], "more": "x" * 70_000})[:70_000]
    headers = {} if length is None else {wire.HEADER_LENGTH: length}
    assert client.post(INFER, content=body, headers=headers).status_code == 400
    assert hops == [1]


@pytest.mark.parametrize("value", [[], {}, {"inputs": 3}, {"inputs": [3]}, {"inputs": [{}]}, None])
def test_broken_json_is_refused_at_once(client: TestClient, hops: list[int], value: object) -> None:
    assert client.post(INFER, content=orjson.dumps(value)).status_code == 400
    assert hops == []


def test_one_entry_is_not_copied() -> None:
    queue: Queue[Any] = Queue(10, 1000)
    first, second = (Entry(x, 1.0, Future()) for x in (torch.zeros(2, 3), torch.ones(3, 3)))
    queue.put(first)
    alone = queue.take(9).x()
    assert alone.data_ptr() == first.x.data_ptr()
    queue.put(second)
    queue.put(Entry(torch.zeros(2, 3), 1.0, Future()))
    assert queue.take(9).x().tolist() == [[1.0] * 3] * 3 + [[0.0] * 3] * 2


def test_a_small_photograph_stays_and_another_does_not(client: TestClient, hops: list[int]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (224, 224), (200, 10, 10)).save(stream, "JPEG")
    files = [
        (stream.getvalue(), "image/jpeg"),
        (LARGE.encode(torch.zeros(LARGE.shape)), "image/png"),
    ]
    answers = [
        client.post("/v1/classify", content=file, headers={"content-type": kind})
        for file, kind in files
    ]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert hops == [1], "the PNG went"
