"""Callers of a gateway with a store who remember every row that was acknowledged."""

import io
import itertools
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from benchmarks.gateway_load import Answer, post
from buckler.store import care
from buckler.store.engine import Store
from buckler.store.tables import decisions, reviews

from .stored import rows
from .tiny import CLASSIFY, LEFT, body


@dataclass
class Crowd:
    """Each request has an accepted row, and two of five a SUSPICIOUS one of its own input.

    acknowledged: request id → review id of its row 1.
    """

    key: str
    run: str
    acknowledged: dict[str, str] = field(default_factory=dict)
    answered: int = 0
    _count: "itertools.count[int]" = field(default_factory=itertools.count)

    def request(self) -> bytes:
        number = next(self._count)
        headers = {"x-api-key": self.key, "x-request-id": f"{self.run}.{number}"}
        second = odd(number) if is_odd(number) else LEFT
        content = json.dumps(body(LEFT, second)).encode()
        return post(CLASSIFY, content, "application/json", headers)

    def heard(self, answer: Answer) -> None:
        self.answered += 1
        if answer.status == 200:
            found = json.loads(answer.body)
            first, second = (each["review_id"] for each in found["verdicts"])
            assert first == ""
            name = found["request_id"]
            assert bool(second) == is_odd(int(name.split(".")[1]))
            if second:
                self.acknowledged[name] = second


def is_odd(number: int) -> bool:
    return number % 5 < 2


def odd(number: int) -> torch.Tensor:
    """Almost blank, so SUSPICIOUS, and like no other of the first 2 ** 16."""
    x = torch.zeros(1, 1, 8, 8)
    bits = [(number >> bit) & 1 for bit in range(16)]
    x.view(-1)[0:64:4] = torch.tensor(bits, dtype=torch.float32) * 20 / 255
    return x


def check(store: Store, crowd: Crowd) -> None:
    """Nothing that was acknowledged is lost, nothing is there twice, all is readable."""
    kept = {(row["request_id"], row["row"]): row for row in rows(store, reviews)}
    assert len(kept) == len(rows(store, reviews)), "a row is there twice"
    for request_id, name in crowd.acknowledged.items():
        row = kept[request_id, 1]
        assert row["id"] == name
        content: Any = np.load(io.BytesIO(store.blobs.get(row["blob"])))
        assert np.array_equal(content, odd(int(request_id.split(".")[1]))[0].numpy())
    made = [row["review_id"] for row in rows(store, decisions)]
    assert len(made) == len(set(made)), "an item was decided twice"
    assert care.check(store) == ()
