"""A gateway of texts: strings in, verdicts out, and a reviewer sees what was written."""

import json
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from buckler.defenses.text import Lexicon, Normaliser
from buckler.detectors.confidence import Confidence
from buckler.guard import Guard
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TextClassifier, TorchClassifier
from buckler.serve import create_app
from buckler.serve.inputs import Inputs
from buckler.serve.keep import _fingerprint
from buckler.serve.looker import decoded, passages
from buckler.store.engine import Store
from tests.store.made import add

from .desks import logged_in, pages_app, person, suspect
from .tiny import CLASSIFY, settings

INFER = "/v2/models/buckler/infer"
WORDS = ("free", "money", "hello", "you")


def by_words(texts: list[str]) -> list[list[float]]:
    """Spam: "free" in it; nobody knows: "perhaps"."""
    spam = [0.5 if "perhaps" in text else 0.99 if "free" in text else 0.01 for text in texts]
    return [[1 - p, p] for p in spam]


def text_guard(length: int = 60) -> Guard:
    reader = Normaliser(Lexicon(WORDS, ("free",)))
    return Guard(
        spec=InputSpec.of_texts(("fine", "spam"), length),
        members=(TorchClassifier(TextClassifier(by_words, [reader])),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds((-1.0,), 0),
        digest="0123456789abcdef" * 4,
    )


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(text_guard(), settings(max_rows=8), log=False)) as client:
        yield client


def said(answer: object) -> list[tuple[str, str]]:
    return [(v["prediction"], v["status"]) for v in answer["verdicts"]]


def test_texts_in_json(client: TestClient) -> None:
    texts = ["hello you", "fr\u0435e m0ney", "perhaps", "f.r.e.e"]
    answer = client.post(CLASSIFY, json={"texts": texts})
    assert answer.status_code == 200
    assert said(answer.json()) == [
        ("fine", "ACCEPTED"),
        ("spam", "ACCEPTED"),
        ("fine", "SUSPICIOUS"),
        ("spam", "ACCEPTED"),
    ]


def test_one_plain_text(client: TestClient) -> None:
    plain = {"content-type": "text/plain; charset=utf-8"}
    answer = client.post(CLASSIFY, content="fr\u0435e".encode(), headers=plain)
    assert said(answer.json()) == [("spam", "ACCEPTED")]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"ab\xff", "a text must be UTF-8. Got the byte 0xFF at 3 of 3 bytes"),
        (b"", "a text must hold at least one character. Got an empty one"),
        (b"x" * 1_000_000, "a text may have at most 60 characters. Got 1000000: send it in parts"),
    ],
)
def test_a_plain_text_that_cannot_be_judged(
    client: TestClient, content: bytes, sentence: str
) -> None:
    answer = client.post(CLASSIFY, content=content, headers={"content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]) == (400, sentence)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"texts": ["fine", ""]}', "text 2 of 2: a text must hold at least one character"),
        ('{"texts": ["a\\ud800"]}', "the body must be JSON"),
        ('{"texts": [1]}', "each of texts must be text. Got a number"),
        ('{"texts": [null]}', "each of texts must be text. Got null"),
        ('{"texts": []}', "texts must be a list of 1 to 8 texts. Got a list of 0"),
        ('{"rows": [[1]]}', 'the body must be {"texts": ["…", …]}. Got an object with \'rows\''),
        ('{"texts": "a"}', "texts must be a list of 1 to 8 texts. Got text"),
    ],
)
def test_json_that_is_no_texts(client: TestClient, body: str, sentence: str) -> None:
    answer = client.post(CLASSIFY, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(sentence)


def test_an_image_is_no_text(client: TestClient) -> None:
    answer = client.post(CLASSIFY, content=b"\x89PNG", headers={"content-type": "image/png"})
    assert answer.status_code == 415
    assert "must be a text (text/plain) or texts (application/json)" in answer.json()["error"]


def tensor(data: list[object], **more: object) -> dict[str, object]:
    return {"name": "input", "datatype": "BYTES", "shape": [len(data)], "data": data, **more}


def test_v2_takes_bytes(client: TestClient) -> None:
    found = client.get("/v2/models/buckler").json()["inputs"]
    assert found == [{"name": "input", "datatype": "BYTES", "shape": [-1]}]
    answer = client.post(INFER, json={"inputs": [tensor(["hello", "fr33"])]})
    outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
    assert outputs["prediction"] == ["fine", "spam"]
    whole = client.post(INFER, content=b"free", headers={"inference-header-content-length": "0"})
    assert whole.status_code == 200
    assert b"spam" in whole.content


def test_v2_says_what_is_wrong(client: TestClient) -> None:
    lone = {"inference-header-content-length": "0"}
    answer = client.post(INFER, content=b"\xff", headers=lone)
    assert answer.json()["error"] == "a text must be UTF-8. Got the byte 0xFF at 1 of 1 bytes"
    numbers = {"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    answer = client.post(INFER, json={"inputs": [numbers]})
    assert answer.json()["error"] == "the input must be texts in BYTES. Got float32"


def test_the_contract_says_texts(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    content = paths[CLASSIFY]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "text/plain"}
    text = content["application/json"]["schema"]["properties"]["texts"]["items"]
    assert text == {"type": "string", "minLength": 1, "maxLength": 60}
    assert "texts, datatype BYTES" in json.dumps(paths)


def test_what_is_kept_is_the_text(client: TestClient) -> None:
    guard = text_guard()
    inputs = Inputs(guard.spec.read(["BM: fr\u0435e", "bm fREE", "other"]), text=True)
    content, media = inputs.content(0)
    assert (content.decode(), media) == ("BM: fr\u0435e", "text/plain")
    assert inputs.words(0) == "BM: fr\u0435e"
    assert bool((decoded(content, media, guard.spec) == inputs.x[:1]).all())
    prints = [_fingerprint(inputs, row) for row in range(3)]
    assert prints[0] == prints[1] != prints[2]


def test_reviewers_see_what_was_written_and_what_is_read() -> None:
    found = passages(text_guard(), "hello \u202eeerf\u202c you <b>m0ney</b>")
    assert [(each.written, each.read) for each in found if each.read] == [
        ("eerf", "free"),
        ("<b>m0ney</b>", "<b>money</b>"),
    ]
    assert "".join(each.written for each in found).startswith("hello ⟨U+202E⟩eerf⟨U+202C⟩ you")


def test_the_page_shows_the_text(store: Store) -> None:
    guard = text_guard()
    content = "perhaps fr\u0435e <script>".encode()
    (name,) = add(store, suspect(guard, content=content, media_type="text/plain"))
    with logged_in(pages_app(guard, store), store, person(store)) as pages:
        page = pages.get(f"/review/{name}").text
        saved = pages.get(f"/review/{name}/input")
    assert "<mark>fr\u0435e</mark>" in page
    assert '<span class="read" title="what the guard reads here">free</span>' in page
    assert "<script>" not in page.split('id="text"')[1].split("</section>")[0]
    assert saved.content == content
    assert saved.headers["content-disposition"].endswith('.txt"')
