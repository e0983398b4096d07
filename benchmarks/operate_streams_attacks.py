"""Those who attack a live gateway from outside, one image at a time: as they come, and knowing
the defence."""

import contextlib
import copy
import http.client
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from buckler import wire
from buckler.attacks import PGD, HopSkipJump, SimBA, Square
from buckler.attacks.estimate import Estimating
from buckler.ops.access import new_key
from buckler.ops.fingerprint import Looks
from buckler.ops.streams import Rule, Streams
from buckler.protocols import Attack
from buckler.serve.streams import Guarded
from buckler.threats import LpBall

KEYS = 4  # that an attacker has for one image
STRATEGIES = ("plain", "keys", "mixed", "noise", "tags", "shifts")
_TRIES = 8  # disguises of one query


class Over(Exception):  # noqa: N818
    """The attack ended: it won, or its budget is spent."""


def arsenal(queries: int) -> dict[str, Attack]:
    """The four, for so many queries."""
    steps = max(1, queries // 21)
    return {
        "NES": Estimating(PGD(steps=steps), 20, kind="nes"),
        "Square": Square(queries=queries),
        "HopSkipJump": HopSkipJump(queries=queries, within=True),
        "SimBA": SimBA(queries=queries),
    }


class Line:
    """One connection to a gateway that shows its scores."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._http = http.client.HTTPConnection(str(place.hostname), place.port, timeout=30)

    def ask(self, x: Tensor, key: str) -> tuple[Tensor, int, bool]:
        """Of x (1, ...): log probabilities (1, k), label, whether it was ACCEPTED."""
        asked = ["probabilities", "label", "status"]
        request = wire.infer_request({"input": x.numpy()}, asked, binary=True)
        content, headers = request.frame()
        headers = {**headers, "x-api-key": key}
        self._http.request("POST", "/v2/models/buckler/infer", content, headers)
        answer = self._http.getresponse()
        body, length = answer.read(), answer.getheader("Inference-Header-Content-Length")
        if answer.status != 200:
            raise RuntimeError(f"the gateway answered {answer.status}: {body[:200]!r}")
        found = wire.read_infer_response(*wire.unframe(body, length)).outputs
        logits = torch.from_numpy(np.asarray(found["probabilities"])).clamp_min(1e-12).log()
        return logits, int(found["label"][0]), str(found["status"][0]) == "ACCEPTED"


@dataclass(frozen=True)
class Outcome:
    """Of one image.

    queries: sent near it, what was mixed in not counted. won: an ACCEPTED wrong answer within the
    ball. seen: the query after which the first key was under suspicion, None: never.
    """

    attack: str
    strategy: str
    eps: float
    queries: int
    won: bool
    seen: int | None


@dataclass
class Attacker:
    """Answers an attack's questions, in the way of its strategy.

    plain: one key, as the attack asks. keys: KEYS in turn. mixed: nine inputs of others before each
    query. noise: each query shifted by up to two pixels, with noise of 0.1. tags, shifts: runs a
    copy of the defence beside (all but the salt), and sends only what raises no alarm there, with
    any of its keys: as it is, else disguised by the fewest random cells ("tags": of black and
    white, after Feng et al.'s adaptation of a proposal's noise, CCS 2023), and after a shift by up
    to four pixels ("shifts"); where nothing helps, an input of others goes first.

    Args:
        watched: of the gateway in this process: each query is sent after the last was looked at.
    """

    line: Line
    watched: Guarded | None
    strategy: str
    ids: list[str]
    keys: list[str]
    x: Tensor
    y: int
    eps: float
    budget: int
    others: Tensor
    rng: np.random.Generator
    sent: int = 0
    seen: int | None = None
    won: bool = False
    copied: Streams | None = None
    cells: int = 1
    looked: int = field(default=0)

    def __post_init__(self) -> None:
        if self.strategy in ("tags", "shifts"):
            self.copied = Streams(Rule(), Looks(tuple(self.x.shape[1:]), b"another salt"))
        if self.watched is not None:
            self.looked = self.watched.watcher.rows

    def __call__(self, z: Tensor) -> Tensor:
        return torch.cat([self._one(row[None]) for row in z.detach().float()])

    def _one(self, z: Tensor) -> Tensor:
        if self.sent >= self.budget:
            raise Over
        if self.strategy == "mixed":
            for _ in range(9):
                self._send(self._other(), 0)
        if self.strategy == "noise":
            z = _shifted(z, *self.rng.integers(-2, 3, 2))
            z = (z + 0.1 * torch.from_numpy(self.rng.normal(size=z.shape)).float()).clamp(0, 1)
        key = self.sent % len(self.keys) if self.strategy != "plain" else 0
        if self.copied is not None:
            z, key = self._disguised(z)
        self.sent += 1
        logits, label, accepted = self._send(z, key)
        near = self._within(z)
        self._look()
        if accepted and label != self.y and near:
            self.won = True
            raise Over
        if label != self.y and not near and self.copied is not None and self._within(self._bare):
            self._try(self._bare)
        return logits

    def _try(self, z: Tensor) -> None:
        """The image under the disguise, which may win: sent if some key can afford it."""
        for key in range(len(self.keys)):
            if self._quiet(z, key):
                self.sent += 1
                _, label, accepted = self._send(z, key)
                self._look()
                if accepted and label != self.y:
                    self.won = True
                    raise Over
                return

    def _disguised(self, z: Tensor) -> tuple[Tensor, int]:
        self._bare = z
        plain_left = self.sent < 3
        for attempt in range(_TRIES):
            candidate = z if plain_left and not attempt else self._tagged(z)
            for key in self.rng.permutation(len(self.keys)):
                if self._quiet(candidate, int(key)):
                    self.cells = max(1, self.cells - 1)
                    return candidate, int(key)
            self.cells = min(40, self.cells + 2)
            if attempt == _TRIES // 2:
                for key in range(len(self.keys)):
                    self._send(self._other(), key)
        raise Over

    def _quiet(self, z: Tensor, key: int) -> bool:
        """Whether the copy raises no alarm; it then remembers."""
        trial = copy.deepcopy(self.copied)
        assert trial is not None
        if trial.saw(self.ids[key], self._grid(z)[0].numpy()):
            return False
        self.copied = trial
        return True

    def _tagged(self, z: Tensor) -> Tensor:
        z = z.clone()
        if self.strategy == "shifts":
            z = _shifted(z, *self.rng.integers(-4, 5, 2))
        side = max(1, z.shape[-1] // 14)
        for _ in range(self.cells):
            top, left = self.rng.integers(0, z.shape[-1] // side, 2) * side
            z[..., top : top + side, left : left + side] = float(self.rng.integers(0, 2))
        return z

    def _send(self, z: Tensor, key: int) -> tuple[Tensor, int, bool]:
        found = self.line.ask(z, self.keys[key])
        self.looked += 1
        if self.watched is not None:
            while self.watched.watcher.rows < self.looked:
                time.sleep(0.0002)
        return found

    def _look(self) -> None:
        if self.seen is None and self.watched is not None:
            caught = {suspect.client for suspect in self.watched.suspects.all()}
            if caught & set(self.ids):
                self.seen = self.sent

    def _other(self) -> Tensor:
        row = int(self.rng.integers(len(self.others)))
        other = self.others[row : row + 1]
        if self.copied is not None:
            self.copied.saw(self.ids[0], other[0].numpy())
        return other

    def _within(self, z: Tensor) -> bool:
        return float((self._grid(z) - self.x).abs().max()) <= self.eps + 1e-6

    def _grid(self, z: Tensor) -> Tensor:
        return (z * 255).round() / 255


def attacked(
    make: Callable[[int], Attacker], images: int, attack: str, budget: int
) -> Iterator[Outcome]:
    """One attack on each image, with an attacker of its own."""
    for row in range(images):
        attacker = make(row)
        eps = attacker.eps
        y, ball = torch.tensor([attacker.y]), LpBall("linf", eps)
        with contextlib.suppress(Over):
            arsenal(budget)[attack](attacker, attacker.x, y, ball, seed=row)
        yield Outcome(attack, attacker.strategy, eps, attacker.sent, attacker.won, attacker.seen)


def fresh_keys(count: int) -> list[str]:
    return [new_key() for _ in range(count)]


def _shifted(z: Tensor, down: int, right: int) -> Tensor:
    return torch.roll(z, (int(down), int(right)), (-2, -1))
