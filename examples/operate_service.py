"""What operate_end_to_end.py needs around the gateway: a project on handwritten digits, clients who
send PNG files, two reviewers, somebody who hears alerts."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import torch
from sklearn.datasets import load_digits

from buckler.client import Client
from buckler.inputs import InputSpec
from buckler.store.engine import open_store
from buckler.store.keys import add_key

Json = dict[str, Any]
SPEC = InputSpec((1, 8, 8), tuple("0123456789"), levels=256)
TRAFFIC = 600  # digits that no project has seen
SETTINGS = """
output = "{output}"
[model]
factory = "buckler.models.nets:digits_cnn"
train = true
epochs = 3
[data]
source = "own.npz"
seed = 1
[threat]
curve = [0.1]
one_pixel = false
[assess]
rows = 60
steps = 8
restarts = 1
queries = 20
article = false
[harden]
members = ["noise"]
ensemble = 1
epochs = {epochs}
[guard]
review_rate = {review_rate}
[policy]
success = {success}
accuracy_ratio = {accuracy_ratio}
review_rate = {most_reviewed}
added_latency_ms = 1000
"""


@dataclass(frozen=True)
class Sent:
    """One input: the file, what reviewers will say it is, and whether they call it an attack."""

    png: bytes
    label: str
    attack: bool = False


@dataclass(frozen=True)
class Traffic:
    """Inputs that no project has seen, in parts, each with digits of its own."""

    clean: list[Sent]
    near: list[Sent]
    first_wave: list[Sent]
    second_wave: list[Sent]
    poison: list[Sent]


def write_data(folder: Path) -> Traffic:
    """own.npz, the project's data; and the traffic, of the other digits.

    Near ones are one digit with other small changes each time, as one asks who has no gradients.
    An attack turns black into white, which no training knew. Poison is a digit with another one
    shining through, so that the guard doubts it, under a wrong label.
    """
    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.target))
    x = np.round(raw.images[order] * 255 / 16).astype(np.uint8)
    y = raw.target[order].astype(np.int64)
    np.savez(folder / "own.npz", x=x[TRAFFIC:], y=y[TRAFFIC:])

    def sent(pixels: np.ndarray, labels: np.ndarray, *, attack: bool = False) -> list[Sent]:
        rows = torch.from_numpy(pixels).float()[:, None] / 255
        return [Sent(SPEC.encode(row), str(y), attack) for row, y in zip(rows, labels, strict=True)]

    changes = np.random.default_rng(1).integers(-12, 13, (30, 8, 8))
    near = np.clip(x[200].astype(np.int64) + changes, 0, 255).astype(np.uint8)
    blends = 0.6 * x[:TRAFFIC] + 0.4 * np.roll(x[:TRAFFIC], 1, 0)
    return Traffic(
        clean=sent(x[400:TRAFFIC], y[400:TRAFFIC]),
        near=sent(near, np.repeat(y[200:201], 30), attack=True),
        # In two shades, each of a digit by another client.
        first_wave=[
            *sent(255 - x[:200], y[:200], attack=True),
            *sent(240 - x[7:200] // 17 * 16, y[7:200], attack=True),
        ],
        second_wave=sent(255 - x[200:400], y[200:400], attack=True),
        poison=sent(blends.astype(np.uint8), (y[:TRAFFIC] + 1) % 10),
    )


def buckler(*arguments: object, cwd: Path) -> tuple[int, str]:
    """A command in a process of its own: exit code, what it said."""
    command = [sys.executable, "-m", "buckler.cli.main", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def make(folder: Path, name: str, settings: Json, output: str) -> Path:
    """A project NAME.toml and its bundle."""
    write_settings(folder, name, settings, output)
    for verb in ("harden", "build"):
        run(folder, verb, "-c", f"{name}.toml")
    return folder / output / "bundle"


def write_settings(folder: Path, name: str, settings: Json, output: str) -> None:
    (folder / f"{name}.toml").write_text(SETTINGS.format(output=output, **settings))


def run(folder: Path, *arguments: object) -> None:
    code, said = buckler(*arguments, cwd=folder)
    if code:
        raise SystemExit(f"buckler {' '.join(map(str, arguments))} ended with {code}: {said}")


def new_keys(url: str, roles: Sequence[str], count: int = 1) -> list[str]:
    """As `buckler store key NAME --role ROLE` makes them."""
    with closing(open_store(url)) as store:
        return [add_key(store, "example", roles, time.time(), "example")[1] for _ in range(count)]


@dataclass(frozen=True)
class Gateway:
    """Over HTTP, as anyone sees it. key: of an operator."""

    http: httpx2.Client
    key: str

    def classify(self, key: str, sent: Sent) -> Json:
        headers = {"X-API-Key": key, "Content-Type": "image/png"}
        answer = self.http.post("/v1/classify", content=sent.png, headers=headers)
        answer.raise_for_status()
        verdict: Json = answer.json()["verdicts"][0]
        return verdict

    def get(self, path: str) -> Json:
        answer = self.http.get(path, headers={"X-API-Key": self.key})
        answer.raise_for_status()
        found: Json = answer.json()
        return found

    def post(self, path: str, body: Json) -> tuple[int, Json]:
        answer = self.http.post(path, json=body, headers={"X-API-Key": self.key})
        return answer.status_code, answer.json()


@dataclass(frozen=True)
class Wave:
    """What came of some inputs: how many were right, SUSPICIOUS, or accepted with a wrong class."""

    n: int
    suspicious: int
    fooled: int

    @property
    def rate(self) -> float:
        """Accepted and wrong / all."""
        return self.fooled / self.n

    def __str__(self) -> str:
        return f"{self.n} inputs: {self.suspicious} SUSPICIOUS, {self.fooled} accepted and wrong"


def send(gateway: Gateway, keys: Sequence[str], inputs: Sequence[Sent]) -> Wave:
    """Each input once, the keys in turn."""
    suspicious = fooled = 0
    for number, each in enumerate(inputs):
        verdict = gateway.classify(keys[number % len(keys)], each)
        suspicious += verdict["status"] == "SUSPICIOUS"
        fooled += verdict["status"] == "ACCEPTED" and verdict["prediction"] != each.label
    return Wave(len(inputs), suspicious, fooled)


def review(url: str, keys: Sequence[str], truth: Mapping[bytes, Sent]) -> int:
    """Reviewers with these keys, until nothing waits for them; how many decisions they made."""
    made, before = 0, -1
    while before != made:  # what was parked comes up once there is room
        before = made
        for key in keys:
            with Client(url, key) as client:
                while (item := client.next_review()) is not None:
                    sent = truth[client.review_input(item.id)]
                    kind = "adversarial" if sent.attack else "label"
                    client.decide(item, kind, label=sent.label)
                    made += 1
    return made


@contextmanager
def alerts_heard() -> Iterator[tuple[str, list[Json]]]:
    """A receiver for Alertmanager's webhooks: its URL, and what it was told."""
    heard: list[Json] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", heard
    finally:
        server.shutdown()
        server.server_close()


@dataclass
class Story:
    """What is told, and which promises were not kept.

    look: is called at each station of it, with its name.
    """

    folder: Path
    traffic: Traffic
    gateway: Gateway
    url: str
    clients: list[str]
    reviewers: list[str]
    heard: list[Json]
    look: Callable[["Story", str], None]
    began: float = field(default_factory=time.monotonic)
    broken: list[str] = field(default_factory=list)
    first: Wave = Wave(0, 0, 0)

    @property
    def store(self) -> str:
        return f"sqlite:///{self.folder}/store/store.db"

    def says(self, sentence: str) -> None:
        print(f"  {sentence}", flush=True)

    def chapter(self, title: str) -> None:
        print(f"\n{title}  [{time.monotonic() - self.began:.0f} s]", flush=True)

    def promise(self, sentence: str, kept: bool) -> None:
        self.says(f"{'kept:' if kept else 'NOT KEPT:'} {sentence}")
        if not kept:
            self.broken.append(sentence)

    def owed(self, parent: Path) -> bool:
        """What the weekly timer asks."""
        code, said = buckler(
            *("retrain", "--due", "--store", self.store, "--parent", parent), cwd=self.folder
        )
        self.says(said)
        return code == 0

    def until(self, true: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not (found := true()) and time.monotonic() < end:
            time.sleep(0.2)
        return found
