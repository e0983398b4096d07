"""A live endpoint as a classifier: the V2 protocol, or Buckler's own gateway. Black-box."""

import math
import re
import threading
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import numpy as np
import torch
from torch import Tensor

from buckler import wire
from buckler.errors import DataError, UsageError
from buckler.inputs import InputSpec
from buckler.models.endpoint import Endpoint
from buckler.models.layout import Layout, arrange, layout
from buckler.models.scores import (
    Scores,
    log_probabilities,
    look_like_probabilities,
    one_hot_logits,
)

Kind = Literal["v2", "classify"]
_CLASSIFY = "/v1/classify"
_MOST_VALUES = 150_000  # a request: about 3 MB of JSON
_V2 = re.compile(r"/v2/models/[^/]+(/versions/[^/]+)?$")


class RemoteClassifier:
    """Logits of what an endpoint answers; gives no gradient.

    "v2": POST URL/infer with one FP32 tensor. Scores (n, k) come back as logits or probabilities
    (told at the first answer; the log of probabilities is taken); where only labels come back,
    ints or class names, the scores are one-hot: decisions alone.

    "classify": Buckler's gateway. Logits are (n, k + 1), and the last class, "rejected", wins
    exactly where the status is SUSPICIOUS. The top class has the log of its confidence, the others
    share the rest, and "rejected" stands apart from the top by a monotone map of the anomaly
    score. Where a server hides these numbers, the scores are one-hot.

    Args:
        url: of the model, http://HOST/v2/models/NAME, or of the gateway, http://HOST.
        spec: of its inputs; labels in words are looked up in the class names.
        input, output: names of V2 tensors; by default the only input the server's own metadata
            name, and the first output that fits.
        max_rows: a request; fewer where rows are long.
        endpoint: timeouts, tries, rate limit, keys, and the counter of queries.

    Raises: UsageError for a URL of another form; on a call, for an answer that cannot be read,
        changes its kind, or comes from another bundle than the first.
    """

    def __init__(
        self,
        url: str,
        spec: InputSpec,
        kind: Kind = "v2",
        *,
        input: str = "",
        output: str = "",
        max_rows: int = 64,
        endpoint: Endpoint | None = None,
    ) -> None:
        if kind not in get_args(Kind):
            raise UsageError(f"kind must be one of {', '.join(get_args(Kind))}. Got {kind!r}")
        if max_rows < 1:
            raise UsageError(f"max_rows must be >= 1. Got {max_rows}")
        self.kind: Kind = kind
        self.endpoint = endpoint or Endpoint()
        self.scores: Scores | None = None
        self.digest = ""
        self._url = _v2_url(url) if kind == "v2" else _gateway_url(url)
        self._spec = spec
        self._max_rows = max(1, min(max_rows, _MOST_VALUES // math.prod(spec.shape)))
        self._input, self._output = input, output
        self._layout: Layout | None = "as it is" if input else None
        self._index = {name: label for label, name in enumerate(spec.class_names)}
        self._lock = threading.Lock()

    @property
    def queries(self) -> int:
        """Rows answered so far."""
        return self.endpoint.answered

    @property
    def rejects(self) -> bool:
        """Whether the last class is "rejected"."""
        return self.kind == "classify"

    def __call__(self, x: Tensor) -> Tensor:
        if not len(x):
            return x.new_zeros(0, self._spec.classes + self.rejects)
        ask = self._classify if self.rejects else self._infer
        parts = [ask(rows) for rows in x.detach().cpu().float().split(self._max_rows)]
        return torch.from_numpy(np.concatenate(parts).astype(np.float32)).to(x)

    def _infer(self, x: Tensor) -> np.ndarray:
        rows = arrange(x, self._look_up()).numpy()
        try:
            asked = [self._output] if self._output else []
            request = wire.infer_request({self._input: rows}, asked)
            reply = self.endpoint.post(f"{self._url}/infer", request.head, len(rows))
            found = wire.read_infer_response(reply).outputs
        except DataError as error:
            raise UsageError(f"{self._url}: {error}") from None
        return self._logits(found, len(rows))

    def _look_up(self) -> Layout:
        """The layout, and the input's name; asked of the server once."""
        with self._lock:
            if self._layout is None:
                self._input, self._layout = self._metadata()
            return self._layout

    def _metadata(self) -> tuple[str, Layout]:
        found: Any = self.endpoint.get(self._url)
        try:
            (tensor,) = found["inputs"]
            name, datatype, shape = tensor["name"], tensor["datatype"], list(tensor["shape"])
            sizes = tuple(size if size > 0 else None for size in shape[1:])
        except (TypeError, KeyError, ValueError):
            raise UsageError(
                f"the metadata at {self._url} must name one input, its datatype and shape. "
                f"Got {str(found)[:200]}: give input= yourself"
            ) from None
        if datatype != "FP32":
            raise UsageError(f"the input {name!r} of {self._url} must be FP32. Got {datatype}")
        return str(name), layout(sizes, self._spec.shape, first=True)

    def _logits(self, outputs: wire.Arrays, n: int) -> np.ndarray:
        """(n, k) of the named output, else of the first scores, else of the first labels."""
        if self._output and self._output not in outputs:
            raise UsageError(f"{self._url} must answer {self._output!r}. Got {', '.join(outputs)}")
        mine = [outputs[self._output]] if self._output else list(outputs.values())
        k = self._spec.classes
        for values in mine:
            if values.dtype.kind == "f" and values.shape == (n, k):
                probable = look_like_probabilities(values)
                kind = self._settle("probabilities" if probable else "logits")
                return log_probabilities(values) if kind == "probabilities" else values
        for values in mine:
            if values.dtype.kind in "iuO" and values.shape in ((n,), (n, 1)):
                self._settle("decisions")
                return one_hot_logits(self._labels(values.ravel()), k)
        shapes = ", ".join(f"{name} {array.shape}" for name, array in outputs.items())
        raise UsageError(
            f"{self._url} must answer scores ({n}, {k}) or labels ({n},) for {n} rows. Got {shapes}"
        )

    def _settle(self, seen: Scores) -> Scores:
        """What the scores are, decided at the first answer."""
        with self._lock:
            if self.scores is None:
                self.scores = seen
            numbers = {"logits", "probabilities"}
            if seen != self.scores and not {seen, self.scores} <= numbers:
                raise UsageError(
                    f"{self._url} must answer alike each time. Got {self.scores}, then {seen}"
                )
            return self.scores

    def _labels(self, values: np.ndarray) -> np.ndarray:
        labels = [self._index.get(v, -1) if isinstance(v, str) else int(v) for v in values]
        if min(labels) < 0 or max(labels) >= self._spec.classes:
            raise UsageError(
                f"{self._url} must answer labels 0..{self._spec.classes - 1} or class names. "
                f"Got {list(values)[:10]}"
            )
        return np.array(labels)

    def _classify(self, x: Tensor) -> np.ndarray:
        reply: Any = self.endpoint.post(self._url, {"rows": x.flatten(1).tolist()}, len(x))
        verdicts = reply.get("verdicts") if isinstance(reply, dict) else None
        if not isinstance(verdicts, list) or len(verdicts) != len(x):
            raise UsageError(f"{self._url} must answer {len(x)} verdicts. Got {str(reply)[:200]}")
        return np.stack([self._verdict(verdict) for verdict in verdicts])

    def _verdict(self, verdict: Any) -> np.ndarray:
        """(k + 1,) logits of one verdict."""
        k = self._spec.classes
        try:
            top, status = self._index[verdict["prediction"]], verdict["status"]
            suspicious = {"ACCEPTED": False, "SUSPICIOUS": True}[status]
        except (TypeError, KeyError):
            raise UsageError(
                f"a verdict needs a prediction in {list(self._index)[:10]} and the status ACCEPTED "
                f"or SUSPICIOUS. Got {str(verdict)[:200]}"
            ) from None
        self._one_bundle(str(verdict.get("bundle", "")))
        confidence, anomaly = verdict.get("confidence"), verdict.get("anomaly_score")
        if not _share(confidence) or not _share(anomaly):
            self._settle("decisions")
            return one_hot_logits(np.array([k if suspicious else top]), k + 1).ravel()
        self._settle("confidence")
        return _graded(top, suspicious, float(confidence), float(anomaly), k)

    def _one_bundle(self, digest: str) -> None:
        with self._lock:
            self.digest = self.digest or digest
            if digest != self.digest:
                raise UsageError(
                    f"{self._url} answered from the bundle {digest[:12]}, after {self.digest[:12]}:"
                    " figures over two would be of neither. Wait until the rollout is over"
                )


def _graded(top: int, suspicious: bool, confidence: float, anomaly: float, k: int) -> np.ndarray:
    """(k + 1,) logits, apart by no less than float32 can tell."""
    sure = min(max(confidence, 1 / k + 1e-4), 1 - 1e-7)
    logits = np.full(k + 1, math.log((1 - sure) / (k - 1)))
    logits[top] = math.log(sure)
    room = -math.log1p(-min(anomaly, 1 - 1e-6)) if suspicious else math.log(max(anomaly, 1e-6))
    logits[k] = logits[top] + (max(room, 1e-3) if suspicious else min(room, -1e-3))
    return logits


def _share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def is_v2(url: str) -> bool:
    """Whether the URL is of a model under the V2 protocol."""
    return bool(_V2.search(_clean(url).removesuffix("/infer")))


def _v2_url(url: str) -> str:
    found = _clean(url).removesuffix("/infer")
    if not _V2.search(found):
        raise UsageError(f"a V2 model's URL is http://HOST/v2/models/NAME. Got {url!r}")
    return found


def _gateway_url(url: str) -> str:
    return _clean(url).removesuffix(_CLASSIFY) + _CLASSIFY


def _clean(url: str) -> str:
    try:
        parts = urlsplit(url)
        reachable = parts.port != 0
    except ValueError as error:  # a port that is none, brackets that hold no address
        raise UsageError(
            f"an endpoint's URL is http://HOST/... Got one that is none: {error}"
        ) from None
    if parts.username or parts.password:
        raise UsageError("an endpoint's URL must hold no password: send it as a header")
    if not (reachable and url.isascii() and url.isprintable() and " " not in url):
        raise UsageError(f"an endpoint's URL is plain ASCII, the rest %-encoded. Got {url!r}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise UsageError(f"an endpoint's URL is http://HOST/... or https://HOST/... Got {url!r}")
    return url.rstrip("/")
