"""What the guard makes of one input, for a person: its views, their differences, each member's say.

It runs in a thread of its own, beside the one that judges requests, and remembers what it saw.
"""

import asyncio
import io
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import torch
from torch import Tensor

from buckler.defenses import JPEG, Median
from buckler.defenses.text import Normaliser
from buckler.errors import DataError
from buckler.guard import Guard
from buckler.guard.keys import content_keys
from buckler.inputs import InputSpec
from buckler.store.blobs import Blobs
from buckler.text.codes import decode, from_utf8

TIMES: Final = 10
_PATIENCE_S: Final = 10.0
_KEPT_BYTES: Final = 64 * 1024 * 1024
_KEPT: Final = 512


@dataclass(frozen=True)
class Vote:
    """A class and its probability."""

    prediction: str
    probability: float


@dataclass(frozen=True)
class View:
    """The input as the guard also sees it. own: the guard uses it; else it is shown as a help.

    difference: ten times what the transform changed, around grey.
    """

    name: str
    own: bool
    answer: Vote
    picture: bytes = field(repr=False)
    difference: bytes = field(repr=False)


@dataclass(frozen=True)
class Passage:
    """A part of a text; read: what the guard reads there, "" where it is what is written."""

    written: str
    read: str = ""


@dataclass(frozen=True)
class Look:
    """An input for people.

    picture: a PNG, of `size` (width, height) pixels; None for numbers, which stand in `values`, and
        for a text, which stands in `passages`.
    views, probabilities (one a class) and votes (weight and answer of each member): empty for an
    input that another bundle judged.
    """

    picture: bytes | None = field(repr=False)
    size: tuple[int, int]
    values: tuple[float, ...] = field(repr=False)
    views: tuple[View, ...] = ()
    probabilities: tuple[float, ...] = ()
    votes: tuple[tuple[float, Vote], ...] = ()
    passages: tuple[Passage, ...] = field(default=(), repr=False)

    @property
    def nbytes(self) -> int:
        views = sum(len(view.picture) + len(view.difference) for view in self.views)
        text = sum(len(each.written) + len(each.read) for each in self.passages)
        return len(self.picture or b"") + views + 32 * len(self.values) + 8 * text + 1000


class Looker:
    """Looks at kept inputs with this gateway's guard; one at a time, each once while it is kept."""

    def __init__(self, guard: Guard, blobs: Blobs) -> None:
        self._guard = guard
        self._blobs = blobs
        self._thread = ThreadPoolExecutor(1, "buckler-looker")
        self._lock = threading.Lock()
        self._seen: OrderedDict[tuple[str, bool], Look] = OrderedDict()
        self._bytes = 0

    async def look(self, blob: str, media_type: str, judged: bool) -> Look:
        """The input of that sha256.

        Args:
            judged: this guard gave the verdict; if not, only the input is shown.

        Raises: DataError if it is missing, or is no input of this guard; StoreDownError;
            TimeoutError if the guard takes too long.
        """
        if found := self._remembered(blob, judged):
            return found
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(_PATIENCE_S):
            return await loop.run_in_executor(self._thread, self._look, blob, media_type, judged)

    def _look(self, blob: str, media_type: str, judged: bool) -> Look:
        if found := self._remembered(blob, judged):
            return found
        x = decoded(self._blobs.get(blob), media_type, self._guard.spec)
        with torch.inference_mode():
            found = look(self._guard, x, judged)
        with self._lock:
            self._seen[blob, judged] = found
            self._bytes += found.nbytes
            while self._bytes > _KEPT_BYTES or len(self._seen) > _KEPT:
                self._bytes -= self._seen.popitem(last=False)[1].nbytes
        return found

    def _remembered(self, blob: str, judged: bool) -> Look | None:
        with self._lock:
            found = self._seen.get((blob, judged))
            if found is not None:
                self._seen.move_to_end((blob, judged))
        return found


def decoded(content: bytes, media_type: str, spec: InputSpec) -> Tensor:
    """One kept input as x (1, *shape): an image file, .npy (application/x-npy), or JSON numbers.

    Raises: DataError if it is no input of this spec.
    """
    if media_type.startswith("image/"):
        return spec.check(spec.decode(content))
    if spec.text:
        return spec.read([from_utf8(content)])
    try:
        if media_type == "application/x-npy":
            values = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            values = json.loads(content)
        x = torch.from_numpy(np.asarray(values, np.float32)).reshape(1, *spec.shape)
    except (ValueError, TypeError, EOFError, RuntimeError) as error:
        raise DataError(
            f"the input must be an image, .npy or JSON numbers of the shape {spec.shape}. "
            f"Got {media_type}: {error}"
        ) from None
    return spec.check(x)


def look(guard: Guard, x: Tensor, judged: bool) -> Look:
    """What the guard makes of x (1, *shape)."""
    spec = guard.spec
    x = spec.snap(x)
    picture = spec.seen(x[0]) if spec.is_image else None
    size = (spec.shape[2], spec.shape[1]) if spec.is_image else (0, 0)
    values = () if spec.is_image or spec.text else tuple(x.flatten().tolist())
    text = passages(guard, decode(x)[0]) if spec.text else ()
    if not judged:
        return Look(picture, size, values, passages=text)
    features = guard.features(x, content_keys(guard.secret, x) if guard.random else None)
    names, answers = spec.class_names, features.log_probs[:, 0].exp()
    votes = []
    for weight, temperature, z in zip(
        guard.weights, guard.temperatures, features.logits[:, 0, 0], strict=True
    ):
        votes.append((weight, _vote(names, (z / temperature).softmax(0))))
    return Look(
        picture,
        size,
        values,
        tuple(_views(guard, x, features.views[:, 0], answers)) if spec.is_image else (),
        tuple(answers[0].tolist()),
        tuple(votes),
        text,
    )


def passages(guard: Guard, text: str) -> tuple[Passage, ...]:
    """The text as it was written, and where the guard's normaliser reads something else.

    Signs that leave no mark, or change the direction of what follows, are written as U+200B.
    """
    steps = (step for member in guard.members for step in getattr(member.module, "path", ()))
    reader = next((step for step in steps if isinstance(step, Normaliser)), Normaliser())
    found, done, read = [], 0, reader.explain(text)
    for span in sorted(read.spans, key=lambda each: each.first):
        if span.first < done:
            continue
        found.append(Passage(_visible(text[done : span.first])))
        found.append(
            Passage(_visible(text[span.first : span.last]), read.text[span.start : span.stop])
        )
        done = span.last
    return tuple(each for each in (*found, Passage(_visible(text[done:]))) if each.written)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else f"⟨U+{ord(c):04X}⟩" for c in text)


def _views(guard: Guard, x: Tensor, views: Tensor, answers: Tensor) -> list[View]:
    """What the guard sees besides x (1, c, h, w); a median and a JPEG where it sees nothing else.

    views (v, c, h, w) and answers (v, k): of the guard, its first view is what it predicts from.
    """
    spec = guard.spec
    names, own = spec.class_names, bool(guard.path or guard.views)
    called = [" then ".join(part.name for part in guard.path), *(part.name for part in guard.views)]
    if not guard.path:
        called, views, answers = called[1:], views[1:], answers[1:]
    if not own:
        low, high = spec.box
        unit = (x - low) / (high - low)
        helps = (Median(3),) if spec.is_deep else (Median(3), JPEG(75))
        views = torch.cat([part(unit) for part in helps]) * (high - low) + low
        called, answers = [part.name for part in helps], guard.classifier()(views).exp()
    return [
        View(name, own, _vote(names, p), spec.seen(v), _difference(spec, x[0], v))
        for name, v, p in zip(called, views, answers, strict=True)
    ]


def _difference(spec: InputSpec, x: Tensor, view: Tensor) -> bytes:
    return spec.seen(sum(spec.box) / 2 + TIMES * (view - x))


def _vote(names: Sequence[str], probabilities: Tensor) -> Vote:
    top = int(probabilities.argmax())
    return Vote(names[top], float(probabilities[top]))
