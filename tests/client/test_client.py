"""The client against a real gateway on the loopback."""

import asyncio
import inspect
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from buckler.client import Answer, AsyncClient, Client, Patience
from buckler.errors import DataError, PolicyError, UsageError
from buckler.ops.access import Key, Keys, digest_of, new_key, prefix_of
from buckler.serve import Background

from ..serve.tiny import BLANK, DIGEST, LEFT, RIGHT, SPEC, settings, tiny_guard

X = torch.cat([LEFT, RIGHT, BLANK]).numpy()
FILES = [SPEC.encode(image[0]) for image in (LEFT, RIGHT, BLANK)]
FOUND = [("left", 0, "ACCEPTED"), ("right", 1, "ACCEPTED"), ("left", 0, "SUSPICIOUS")]


def short(answers: list[Answer]) -> list[tuple[str, int, str]]:
    return [(each.prediction, each.label, each.status) for each in answers]


def test_every_kind_of_input(url: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{index}.png" for index in range(3)]
    for path, content in zip(paths, FILES, strict=True):
        path.write_bytes(content)
    with Client(url) as client:
        for images in (
            X,
            X.astype(np.float64),
            X.astype(np.float16),
            np.asfortranarray(X),
            (X * 255).astype(np.uint8),
            X.tolist(),
            list(X),
            torch.from_numpy(X),
            FILES,
            tuple(paths),
            [FILES[0], paths[1], FILES[2]],
        ):
            assert short(client.classify(images)) == FOUND
        assert short(client.classify(FILES[1])) == FOUND[1:2]
        assert short(client.classify(paths[2])) == FOUND[2:]
        assert client.classify([]) == []
        assert client.classify(np.zeros((0, 1, 8, 8))) == []


def test_the_same_awaited(url: str) -> None:
    async def ask() -> list[list[Answer]]:
        async with AsyncClient(url) as client:
            assert await client.ready()
            assert await client.live()
            assert await client.models() == ("buckler",)
            return await asyncio.gather(*(client.classify(each) for each in (X, FILES, FILES[0])))

    assert [short(each) for each in asyncio.run(ask())] == [FOUND, FOUND, FOUND[:1]]


def test_health_and_models(url: str) -> None:
    with Client(url) as client:
        assert client.live()
        assert client.ready()
        assert client.models() == ("buckler",)


def test_scores_where_they_are_shown(url: str, scores: str) -> None:
    with Client(url) as client:
        (hidden,) = client.classify(BLANK.numpy())
    assert (hidden.confidence, hidden.anomaly_score, hidden.reasons) == (None, None, ())
    assert hidden.bundle == DIGEST
    with Client(scores) as client:
        (shown,) = client.classify(BLANK.numpy())
    assert shown.confidence == pytest.approx(1 / 3)
    assert shown.reasons == ("confidence",)
    assert shown.anomaly_score is not None


def test_more_than_one_request_holds(url: str) -> None:
    """700 rows in parts of 256, 16 MB in parts of 4: in order, each under an id of its own."""
    many = np.concatenate([X] * 234)[:700]
    with Client(url) as client:
        answers = client.classify(many)
        assert short(answers) == (FOUND * 234)[:700]
        assert len({answer.request_id for answer in answers}) == 3
        assert short(client.classify(FILES * 100)) == FOUND * 100
    with Client(url, max_rows=2) as client:
        assert len({answer.request_id for answer in client.classify(X)}) == 2
    with Client(url, max_bytes=1024 + 2 * 256) as client:
        assert len({answer.request_id for answer in client.classify(X)}) == 2
        assert short(client.classify(FILES)) == FOUND


def test_what_is_no_input_is_not_sent() -> None:
    client = Client("http://127.0.0.1:9")
    for wrong, sentence in (
        ("cat.png", "must be image files .bytes or Path. or an array of numbers.*Got str"),
        ([b"x", 1.0], "must be image files .bytes or Path. or numbers. Got both"),
        ([[1.0], [1.0, 2.0]], "must be image files or numbers"),
        ([True], "Got list of bool"),
        (3.0, "Got float"),
        (Path("/nowhere/cat.png"), "/nowhere/cat.png cannot be read: No such file"),
    ):
        with pytest.raises(DataError, match=sentence):
            client.classify(wrong)  # type: ignore[arg-type]


def test_refusals_in_the_gateways_own_words(url: str) -> None:
    with Client(url) as client:
        with pytest.raises(DataError, match=r"must have the shape \(n, 1, 8, 8\).*Got \(3, 8, 8\)"):
            client.classify(X[:, 0])
        with pytest.raises(DataError, match=r"inputs must lie in \[0, 1\]"):
            client.classify(X + 1)
        with pytest.raises(DataError, match="image"):
            client.classify(b"no image at all")
    with Client(url, model="other") as client, pytest.raises(UsageError, match="the model here is"):
        client.classify(X)
    with Client(url, max_bytes=10**9) as client, pytest.raises(DataError, match="at most 4194304"):
        client.classify([bytes(5_000_000)])


def test_keys() -> None:
    text = new_key()
    key = Key(
        "shop", prefix_of(text), digest_of(text), frozenset({"infer"}), math.inf, math.inf, None
    )
    with Background(tiny_guard(), settings(), log=False, keys=Keys([key])) as url:
        with Client(url, text) as client:
            assert short(client.classify(X)) == FOUND
            assert text not in repr(client)
        with Client(url) as client:
            assert client.ready(), "health is open"
            with pytest.raises(PolicyError, match="a key is needed"):
                client.classify(X)
        with Client(url, "bk_wrong") as client, pytest.raises(PolicyError, match="unknown"):
            client.models()


def test_nothing_listens() -> None:
    with Client("http://127.0.0.1:9", patience=Patience(1.0, 1)) as client:
        assert not client.live()
        assert not client.ready()


def test_what_is_no_gateway() -> None:
    for wrong in ("127.0.0.1:8080", "ftp://host", "http://", "http://a:b@host", "http://host?x=1"):
        with pytest.raises(UsageError, match="a gateway's URL is"):
            Client(wrong)
    with pytest.raises(UsageError, match="line break at its end"):
        Client("http://host", "bk_x\n")
    with pytest.raises(UsageError, match="a model's name is"):
        AsyncClient("http://host", model="../x")


def test_the_guide_is_true(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its first block against a gateway; of its second that it is Python with our names."""
    guide = (Path(__file__).parents[2] / "docs" / "guide" / "client.md").read_text()
    ask, review = re.findall(r"```python\n(.*?)```", guide, re.S)
    monkeypatch.chdir(tmp_path)
    Path("cat.png").write_bytes(FILES[2])
    exec(ask.replace("http://127.0.0.1:8080", url), {})
    assert "SUSPICIOUS" in capsys.readouterr().out
    called = set(re.findall(r"reviewer\.(\w+)\(", review))
    assert called
    assert all(callable(getattr(Client, name)) for name in called)
    compile(review, "client.md", "exec")


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, buckler.client; heavy = ('torch', 'fastapi', 'sqlalchemy', 'buckler.serve'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_missing_library_is_one_sentence() -> None:
    code = (
        "import sys; sys.modules['httpx2'] = None\n"
        "from buckler.errors import UsageError\n"
        "try: import buckler.client\n"
        "except UsageError as error: print(error)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == (
        "the client needs httpx2, which is not installed: "
        'pip install -c constraints.txt -e ".[client]"'
    )


def test_both_clients_have_the_same_calls() -> None:
    def calls(kind: type) -> dict[str, inspect.Signature]:
        members = inspect.getmembers(kind, inspect.isfunction)
        return {n: inspect.signature(f) for n, f in members if not n.startswith("_")}

    assert calls(Client) == calls(AsyncClient)
