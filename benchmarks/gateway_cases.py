"""What is sent to the servers: three inputs, as each server takes them; and two models."""

import base64
import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import torch
from PIL import Image
from torch import Tensor, nn

from buckler import wire
from buckler.detectors.confidence import Confidence
from buckler.guard import Guard
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.verdict import Verdict

NAMES = ("a", "b", "c")
IMAGE = InputSpec((3, 224, 224), NAMES, levels=256, resize="area")
FEATURES = InputSpec((30,), NAMES)
DIGEST = "0" * 64


@dataclass(frozen=True)
class Case:
    """One input; gateway and plain: (path, body, headers) of the request to either."""

    name: str
    spec: InputSpec
    path: str
    body: bytes
    headers: Mapping[str, str]
    decode: Callable[[bytes], Tensor]
    as_json: bytes


def cases() -> dict[str, Case]:
    """30 features, a 224 × 224 JPEG, 602 kB of V2 binary."""
    rng = np.random.default_rng(0)
    row = rng.random((1, 30)).round(4)
    rows = orjson.dumps({"rows": row.tolist()})
    # Blocks compress as photographs do: some 10 kB.
    pixels = np.kron(rng.random((28, 28, 3)), np.ones((8, 8, 1))) * 255
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=85)
    jpeg = stream.getvalue()
    x = rng.random((1, *IMAGE.shape), dtype=np.float32)
    binary, headers = wire.infer_request({"input": x}, binary=True, binary_output=True).frame()
    return {
        "features": Case(
            "30 features, JSON",
            FEATURES,
            "/v1/classify",
            rows,
            {"content-type": "application/json"},
            lambda body: torch.tensor(orjson.loads(body)["rows"]),
            rows,
        ),
        "jpeg": Case(
            f"224 × 224 JPEG, {len(jpeg) / 1000:.0f} kB",
            IMAGE,
            "/v1/classify",
            jpeg,
            {"content-type": "image/jpeg"},
            IMAGE.decode,
            _in_json(jpeg),
        ),
        "binary": Case(
            f"V2 binary, {len(binary) / 1000:.0f} kB",
            IMAGE,
            "/v2/models/buckler/infer",
            binary,
            headers,
            lambda body: torch.from_numpy(
                np.frombuffer(body, np.float32, x.size, len(body) - x.nbytes)
                .copy()
                .reshape(x.shape)
            ),
            _in_json(x.tobytes()),
        ),
    }


def from_json(case: str, value: Mapping[str, Any]) -> Tensor:
    """x of the JSON that a server without our formats is sent."""
    if case == "features":
        return torch.tensor(value["rows"])
    content = base64.b64decode(value["b64"])
    if case == "jpeg":
        return IMAGE.decode(content)
    return torch.from_numpy(np.frombuffer(content, np.float32).copy()).reshape(1, *IMAGE.shape)


@dataclass
class Idle:
    """A guard that has nothing to do, and takes `batch_s` for it."""

    spec: InputSpec
    batch_s: float = 0.0
    digest: str = DIGEST
    random: bool = False
    table: None = None
    answering: None = None

    def judge_with_probabilities(self, x: Tensor) -> tuple[list[Verdict], Tensor]:
        if self.batch_s:
            time.sleep(self.batch_s)
        found = [Verdict("a", 0.9, 0.1, "ACCEPTED", (), DIGEST)] * len(x)
        return found, torch.full((len(x), len(NAMES)), 1 / len(NAMES))

    def judge(self, x: Tensor) -> list[Verdict]:
        return self.judge_with_probabilities(x)[0]


def member(spec: InputSpec) -> nn.Module:
    """A small net that was never trained: 30 features through 64 units, or a small CNN."""
    torch.manual_seed(0)
    if spec is FEATURES:
        net = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, len(NAMES)))
    else:
        net = nn.Sequential(
            nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        ).append(nn.Linear(128, len(NAMES)))
    return net.eval()


def guarded(spec: InputSpec) -> Guard:
    """The net behind the guard that is the default: confidence, one threshold."""
    return Guard(
        spec=spec,
        members=(TorchClassifier(member(spec)),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds((-1.0,), 0),
        digest=DIGEST,
    )


def _in_json(content: bytes) -> bytes:
    return json.dumps({"b64": base64.b64encode(content).decode()}).encode()
