"""RemoteClassifier against real servers on the loopback: V2, and Buckler's own gateway."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from buckler import wire
from buckler.errors import UsageError
from buckler.inputs import InputSpec
from buckler.models import Endpoint, RemoteClassifier, check_classifier, differentiable
from buckler.models.remote import is_v2

SPEC = InputSpec((1, 2, 2), ("cat", "dog", "toaster"))
WEIGHT = torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
X = torch.rand(9, 1, 2, 2, generator=torch.Generator().manual_seed(0))
LOGITS = 5 * X.flatten(1) @ WEIGHT.T
METADATA = {"name": "m", "inputs": [{"name": "px", "datatype": "FP32", "shape": [-1, 1, 2, 2]}]}


class Server:
    """A model behind HTTP; `answer` turns rows (n, 4) into outputs by name."""

    def __init__(self) -> None:
        self.metadata: object = METADATA
        self.answer: Callable[[np.ndarray], dict[str, np.ndarray]] = lambda x: {"z": scores(x)}
        self.verdicts: Callable[[list[list[float]]], list[object]] = lambda rows: []
        self.asked: list[tuple[str, dict[str, object]]] = []
        self.busy: list[tuple[int, dict[str, str]]] = []

    def reply(self, path: str, body: bytes | None) -> tuple[int, dict[str, str], object]:
        if body is None:
            return 200, {}, self.metadata
        if self.busy:
            status, headers = self.busy.pop(0)
            return status, headers, {"error": "busy"}
        value = json.loads(body)
        self.asked.append((path, value))
        if path.endswith("/infer"):
            x = next(iter(wire.read_infer_request(value).inputs.values()))
            return 200, {}, wire.infer_response("m", self.answer(x.reshape(len(x), -1))).head
        return 200, {}, {"verdicts": self.verdicts(value["rows"])}


def scores(x: np.ndarray) -> np.ndarray:
    return (5 * x @ WEIGHT.numpy().T).astype(np.float32)


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    served = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(None)

        def do_POST(self) -> None:
            self.send(self.rfile.read(int(self.headers["Content-Length"])))

        def send(self, body: bytes | None) -> None:
            status, headers, value = served.reply(self.path, body)
            content = json.dumps(value).encode()
            self.send_response(status)
            for name, given in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, given)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        yield served, f"http://127.0.0.1:{listener.server_address[1]}"
        listener.shutdown()
        thread.join()


def test_v2_logits_in_requests_of_so_many_rows(server) -> None:
    served, url = server
    model = RemoteClassifier(f"{url}/v2/models/m", SPEC, max_rows=4)
    torch.testing.assert_close(model(X), LOGITS)
    assert (model.scores, model.queries) == ("logits", 9)
    assert [path for path, _ in served.asked] == ["/v2/models/m/infer"] * 3
    assert [len(body["inputs"][0]["data"]) // 4 for _, body in served.asked] == [4, 4, 1]
    tensor = served.asked[0][1]["inputs"][0]
    assert (tensor["name"], tensor["datatype"], tensor["shape"]) == ("px", "FP32", [4, 1, 2, 2])
    assert model(X[:0]).shape == (0, 3)
    assert model(X.double()).dtype == torch.float64
    assert model.queries == 18
    check_classifier(model, X, 3)
    assert not differentiable(model, X)


def test_v2_probabilities_become_their_log(server) -> None:
    served, url = server
    served.answer = lambda x: {"p": torch.tensor(scores(x)).softmax(1).numpy()}
    model = RemoteClassifier(f"{url}/v2/models/m/infer", SPEC)
    torch.testing.assert_close(model(X), LOGITS.log_softmax(1))
    assert model.scores == "probabilities"
    check_classifier(model, X, 3)


NAMED = np.array(SPEC.class_names, dtype=object)
DECISIONS = [
    lambda x: {"prediction": scores(x).argmax(1)},
    lambda x: {"label": scores(x).argmax(1)[:, None].astype(np.int32)},
    lambda x: {"prediction": NAMED[scores(x).argmax(1)]},
]


@pytest.mark.parametrize("answer", DECISIONS)
def test_v2_labels_alone_are_decisions(server, answer) -> None:
    served, url = server
    served.answer = answer
    model = RemoteClassifier(f"{url}/v2/models/m", SPEC)
    found = model(X)
    assert model.scores == "decisions"
    torch.testing.assert_close(found.exp(), torch.eye(3)[LOGITS.argmax(1)], atol=1e-6, rtol=0)
    check_classifier(model, X, 3)


def test_v2_a_named_output_and_scores_before_labels(server) -> None:
    served, url = server
    served.answer = lambda x: {"label": scores(x).argmax(1), "z": scores(x), "other": -scores(x)}
    model = RemoteClassifier(f"{url}/v2/models/m", SPEC)
    torch.testing.assert_close(model(X), LOGITS)
    named = RemoteClassifier(f"{url}/v2/models/m", SPEC, input="px", output="other")
    torch.testing.assert_close(named(X), -LOGITS)
    assert served.asked[-1][1]["outputs"] == [{"name": "other"}]


def test_v2_channels_last(server) -> None:
    served, url = server
    served.metadata = {"inputs": [{"name": "px", "datatype": "FP32", "shape": [-1, 1, 2, 3]}]}
    spec = InputSpec((3, 1, 2), SPEC.class_names)
    model = RemoteClassifier(f"{url}/v2/models/m", spec)
    served.answer = lambda x: {"z": x[:, :3].astype(np.float32)}  # the first pixel's colours
    x = torch.rand(2, 3, 1, 2)
    torch.testing.assert_close(model(x), x[:, :, 0, 0])


def test_a_busy_server_is_asked_again(server) -> None:
    served, url = server
    served.busy = [(429, {"Retry-After": "2"}), (503, {})]
    slept: list[float] = []
    endpoint = Endpoint(sleep=slept.append)
    model = RemoteClassifier(f"{url}/v2/models/m", SPEC, endpoint=endpoint)
    torch.testing.assert_close(model(X), LOGITS)
    assert slept == [2.0, 0.5]
    assert (endpoint.answered, endpoint.sent) == (9, 27)


def test_a_redirect_is_not_followed(server) -> None:
    """Keys would go where it leads."""
    served, url = server
    served.busy = [(302, {"Location": f"{url}/elsewhere"})]
    endpoint = Endpoint(headers={"Authorization": "secret"})
    with pytest.raises(UsageError, match="refused the request with status 302"):
        RemoteClassifier(f"{url}/v2/models/m", SPEC, input="px", endpoint=endpoint)(X)
    assert served.asked == []


def test_long_rows_go_in_small_requests(server) -> None:
    served, url = server
    served.answer = lambda x: {"z": scores(x[:, :4])}
    spec = InputSpec((3, 160, 160), SPEC.class_names)
    model = RemoteClassifier(f"{url}/v2/models/m", spec, input="px")
    assert model(torch.rand(3, *spec.shape)).shape == (3, 3)
    assert [body["inputs"][0]["shape"][0] for _, body in served.asked] == [1, 1, 1]


def test_a_server_that_is_gone_is_one_sentence() -> None:
    endpoint = Endpoint(tries=2, sleep=lambda _: None, timeout_s=5)
    model = RemoteClassifier("http://127.0.0.1:1/v2/models/m", SPEC, endpoint=endpoint)
    with pytest.raises(UsageError, match=r"gave no answer in 2 tries \(URLError"):
        model(X)


def verdict(row: list[float], **changes: object) -> dict[str, object]:
    """SUSPICIOUS where the last pixel is bright."""
    z = scores(np.array([row], np.float32))[0]
    p = np.exp(z) / np.exp(z).sum()
    return {
        "prediction": SPEC.class_names[int(z.argmax())],
        "confidence": float(p.max()),
        "anomaly_score": row[3],
        "status": "SUSPICIOUS" if row[3] > 0.5 else "ACCEPTED",
        "bundle": "ab" * 32,
        **changes,
    }


def test_suspicious_is_the_rejected_class_and_confidence_is_kept(server) -> None:
    served, url = server
    served.verdicts = lambda rows: [verdict(row) for row in rows]
    model = RemoteClassifier(url, SPEC, "classify", max_rows=4)
    found = model(X)
    flagged = X[:, 0, 1, 1] > 0.5
    assert 0 < int(flagged.sum()) < len(X)
    assert torch.equal(found.argmax(1) == 3, flagged)
    assert torch.equal(found[:, :3].argmax(1), LOGITS.argmax(1))
    probs = found[:, :3].softmax(1).amax(1)
    torch.testing.assert_close(probs, LOGITS.softmax(1).amax(1))
    assert (model.scores, model.rejects, model.digest) == ("confidence", True, "ab" * 32)
    assert served.asked[0][0] == "/v1/classify"
    assert served.asked[0][1] == {"rows": X[:4].flatten(1).tolist()}
    check_classifier(model, X, 4)
    assert model(X[:0]).shape == (0, 4)


def test_a_higher_anomaly_brings_rejected_nearer(server) -> None:
    """Also at the ends of what the numbers can be, where float32 must still tell."""
    served, url = server
    model = RemoteClassifier(url, SPEC, "classify")
    for status, sign in (("ACCEPTED", -1), ("SUSPICIOUS", 1)):
        for confidence in (1 / 3, 0.9, 1.0):
            served.verdicts = lambda rows, s=status, c=confidence: [
                verdict(X[0].flatten().tolist(), anomaly_score=a, status=s, confidence=c)
                for a, _ in zip((0.0, 0.3, 0.9, 1.0), rows, strict=True)
            ]
            logits = model(X[:4])
            gap = logits[:, 3] - logits[:, :3].amax(1)
            assert bool((sign * gap > 0).all())
            assert bool((gap.diff() >= 0).all())
            assert bool((gap.diff() > 0).any())


def test_hidden_numbers_leave_decisions(server) -> None:
    served, url = server
    served.verdicts = lambda rows: [
        {k: v for k, v in verdict(row).items() if k in ("prediction", "status")} for row in rows
    ]
    model = RemoteClassifier(url, SPEC, "classify")
    found = model(X)
    assert model.scores == "decisions"
    want = torch.where(X[:, 0, 1, 1] > 0.5, 3, LOGITS.argmax(1))
    assert torch.equal(found.argmax(1), want)
    assert bool((found.amin(1) < -20).all())


def test_another_bundle_in_between_is_refused(server) -> None:
    served, url = server
    served.verdicts = lambda rows: [verdict(row) for row in rows]
    model = RemoteClassifier(url, SPEC, "classify")
    model(X)
    served.verdicts = lambda rows: [verdict(row, bundle="cd" * 32) for row in rows]
    with pytest.raises(UsageError, match="from the bundle cdcdcdcdcdcd, after abababababab"):
        model(X)


WRONG = [
    (lambda x: {"z": scores(x)[:, :2]}, r"scores \(9, 3\) or labels \(9,\) for 9 rows. Got z \(9"),
    (lambda x: {"label": np.full(len(x), 7)}, r"labels 0\.\.2 or class names. Got \[.*7"),
    (lambda x: {"label": np.array(["cow"] * len(x), dtype=object)}, "class names. Got .*cow"),
]


@pytest.mark.parametrize(("answer", "sentence"), WRONG)
def test_answers_that_fit_nothing(server, answer, sentence: str) -> None:
    served, url = server
    served.answer = answer
    with pytest.raises(UsageError, match=sentence):
        RemoteClassifier(f"{url}/v2/models/m", SPEC)(X)


def test_answers_that_change_their_kind(server) -> None:
    served, url = server
    model = RemoteClassifier(f"{url}/v2/models/m", SPEC)
    model(X)
    served.answer = lambda x: {"label": scores(x).argmax(1)}
    with pytest.raises(UsageError, match=r"answer alike each time. Got logits, then decisions"):
        model(X)


@pytest.mark.parametrize(
    ("metadata", "sentence"),
    [
        ({"inputs": []}, "must name one input"),
        ([], "must name one input"),
        ({"inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 4]}]}, "must be FP32"),
        ({"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 5]}]}, "takes inputs of"),
    ],
)
def test_metadata_that_fit_nothing(server, metadata: object, sentence: str) -> None:
    served, url = server
    served.metadata = metadata
    with pytest.raises(UsageError, match=sentence):
        RemoteClassifier(f"{url}/v2/models/m", SPEC)(X)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda rows: [], "must answer 9 verdicts"),
        (lambda rows: [3] * len(rows), "a verdict needs a prediction in"),
        (lambda rows: [verdict(r, prediction="cow") for r in rows], "a verdict needs"),
        (lambda rows: [verdict(r, status="MAYBE") for r in rows], "Got .*MAYBE"),
    ],
)
def test_verdicts_that_are_none(server, answer, sentence: str) -> None:
    served, url = server
    served.verdicts = answer
    with pytest.raises(UsageError, match=sentence):
        RemoteClassifier(url, SPEC, "classify")(X)


def test_urls() -> None:
    assert is_v2("http://h/v2/models/m/infer")
    assert is_v2("https://h:8000/prefix/v2/models/m/versions/2/")
    assert not is_v2("http://h/v1/classify")
    for url in ("ftp://h/v2/models/m", "file:///etc/passwd", "http://", "http://h/v2/models/m?x=1"):
        with pytest.raises(UsageError, match="an endpoint's URL is"):
            RemoteClassifier(url, SPEC)
    with pytest.raises(UsageError, match="must hold no password: send it as a header") as caught:
        RemoteClassifier("http://me:pa55@h/v2/models/m", SPEC)
    assert "pa55" not in str(caught.value)
    with pytest.raises(UsageError, match="an endpoint's URL is") as caught:
        RemoteClassifier("http://me:pa55@[h/v2/models/m", SPEC)
    assert "pa55" not in str(caught.value)
    for url in (
        "http://h:abc",
        "http://h:99999",
        "http://h:0",
        "http://[h",
        "http://a b",
        "http://ü",
    ):
        with pytest.raises(UsageError, match="an endpoint's URL is"):
            RemoteClassifier(url, SPEC, "classify")
    with pytest.raises(UsageError, match=r"a V2 model's URL is http://HOST/v2/models/NAME"):
        RemoteClassifier("http://h/m", SPEC)
    with pytest.raises(UsageError, match=r"kind must be one of v2, classify. Got 'v3'"):
        RemoteClassifier("http://h/m", SPEC, "v3")
    with pytest.raises(UsageError, match="max_rows must be >= 1"):
        RemoteClassifier("http://h", SPEC, "classify", max_rows=0)
