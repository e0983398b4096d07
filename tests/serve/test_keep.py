"""What must not be lost is on the disk before it is answered; the rest follows."""

import asyncio
import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
import sqlalchemy as sa
from PIL import Image
from torch import Tensor

from buckler.errors import StoreDownError, UsageError
from buckler.ops.access import digest_of
from buckler.ops.access import new_key as fresh
from buckler.serve import Background, Settings, create_app
from buckler.serve.access import LOCAL
from buckler.serve.desk import Desk
from buckler.serve.inputs import Inputs, media_type
from buckler.serve.judged import Judged
from buckler.serve.quota import Quota
from buckler.serve.refusal import RefusedError
from buckler.store import care
from buckler.store.engine import durability, open_store
from buckler.store.keys import add_key, all_keys, revoke_key
from buckler.store.tables import events, reviews

from .stored import new_key, opened, rows, url_in
from .tiny import (
    BLANK,
    CLASSIFY,
    LEFT,
    RIGHT,
    SPEC,
    Scripted,
    accept,
    body,
    settings,
    tiny_guard,
    wait_for,
)

INFER = "/v2/models/buckler/infer"


def encoded(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, kind)
    return stream.getvalue()


def v2(*images: Any) -> dict[str, object]:
    x = np.concatenate([image.numpy() for image in images])
    tensor = {"name": "input", "datatype": "FP32", "shape": x.shape, "data": x.ravel().tolist()}
    return {"inputs": [tensor]}


def test_both_doors_give_ids_whose_rows_and_inputs_are_there(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:
        found = gateway.client.post(CLASSIFY, json=body(LEFT, BLANK, RIGHT)).json()["verdicts"]
        assert [bool(each["review_id"]) for each in found] == [False, True, False]
        outputs = gateway.client.post(INFER, json=v2(BLANK, LEFT)).json()["outputs"]
        ids = next(each["data"] for each in outputs if each["name"] == "review_id")
        assert ids[0]
        assert ids[1] == ""
        kept = {row["id"]: row for row in gateway.rows(reviews)}
        assert set(kept) == {found[1]["review_id"], ids[0]}
        for row in kept.values():
            assert row["media_type"] == "application/x-npy"
            x = np.load(io.BytesIO(gateway.store.blobs.get(row["blob"])))
            assert np.array_equal(x, BLANK[0].numpy())
            assert row["verdict"]["status"] == "SUSPICIOUS"
            assert row["risk"] == max(0.01, row["verdict"]["anomaly_score"])
            assert len(row["fingerprint"]) == 16
        wait_for(lambda: len(gateway.rows(events)) == 2)
        assert sorted((e["accepted"], e["suspicious"]) for e in gateway.rows(events)) == [
            (1, 1),
            (2, 1),
        ]


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PNG", "image/png"),
        ("JPEG", "image/jpeg"),
        ("WEBP", "image/webp"),
        ("BMP", "image/bmp"),
    ],
)
def test_the_callers_own_file_is_kept_whatever_they_call_it(
    tmp_path: Path, kind: str, name: str
) -> None:
    file = encoded(kind)
    with opened(tmp_path) as gateway:
        sent = {"content-type": "image/x-whatever"}
        one = gateway.client.post(CLASSIFY, content=file, headers=sent).json()["verdicts"][0]
        form = gateway.client.post(CLASSIFY, files={"a": SPEC.encode(LEFT[0]), "b": file})
        two = form.json()["verdicts"][1]
        tensor = {
            "name": "input",
            "datatype": "BYTES",
            "shape": [1],
            "parameters": {"binary_data_size": 4 + len(file)},
        }
        head = orjson.dumps({"inputs": [tensor]})
        three = gateway.client.post(
            INFER,
            content=head + len(file).to_bytes(4, "little") + file,
            headers={"inference-header-content-length": str(len(head))},
        )
        assert three.status_code == 200, three.text
        kept = {row["id"]: row for row in gateway.rows(reviews)}
        assert {one["review_id"], two["review_id"]} < set(kept)
        assert len(kept) == 3
        for row in kept.values():
            assert row["media_type"] == name
            assert gateway.store.blobs.get(row["blob"]) == file


def test_large_inputs_are_kept_whole(tmp_path: Path) -> None:
    """What a thread looks at, so that the answers to others need not wait."""

    def suspect(x: Tensor) -> Judged:
        judged = accept(x)
        found = [replace(verdict, status="SUSPICIOUS") for verdict in judged.verdicts]
        return replace(judged, verdicts=found)

    spec = replace(SPEC, shape=(1, 200, 200))
    x = np.random.default_rng(0).random((3, 1, 200, 200), np.float32)
    tensor = {"name": "input", "datatype": "FP32", "shape": x.shape}
    head = orjson.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}]})
    with opened(tmp_path, Scripted(suspect, spec)) as gateway:
        headers = {"inference-header-content-length": str(len(head))}
        found = gateway.client.post(INFER, content=head + x.tobytes(), headers=headers)
        outputs = found.json()["outputs"]
        ids = next(each["data"] for each in outputs if each["name"] == "review_id")
        kept = {row["id"]: row for row in gateway.rows(reviews)}
        for row, name in enumerate(ids):
            content = gateway.store.blobs.get(kept[name]["blob"])
            assert np.array_equal(np.load(io.BytesIO(content)), x[row])


def test_what_is_no_image_has_no_name() -> None:
    assert media_type(b"GIF89a") == "application/octet-stream"


def test_the_commit_comes_before_the_answer(tmp_path: Path) -> None:
    """Over a real socket, with a store whose commit is held."""
    store = open_store(url_in(tmp_path))
    key = {"x-api-key": new_key(store)}
    committing, go = threading.Event(), threading.Event()
    levels: list[str] = []

    def held(connection: sa.Connection) -> None:
        levels.append(durability(connection))
        committing.set()
        assert go.wait(30)

    gateway = Background(tiny_guard(), settings(store=url_in(tmp_path)), log=False)
    with gateway as url, ThreadPoolExecutor(2) as callers:
        durable = gateway.app.state.stored.store.durable
        sa.event.listen(durable, "commit", held)
        answer = callers.submit(httpx.post, url + CLASSIFY, json=body(BLANK), headers=key)
        assert committing.wait(30)
        accepted = httpx.post(url + CLASSIFY, json=body(LEFT), headers=key)
        assert accepted.status_code == 200, "only who must wait does"
        time.sleep(0.1)
        assert not answer.done()
        assert rows(store, reviews) == []
        go.set()
        name = answer.result(30).json()["verdicts"][0]["review_id"]
        assert [row["id"] for row in rows(store, reviews)] == [name]
        assert levels == ["FULL"]
        sa.event.remove(durable, "commit", held)
    store.close()


def test_the_same_request_again_is_the_same_row(tmp_path: Path) -> None:
    with opened(tmp_path) as gateway:

        def ask(images: Any, name: str, **headers: str) -> list[str]:
            sent = {"x-request-id": name, **headers}
            found = gateway.client.post(CLASSIFY, json=body(*images), headers=sent).json()
            return [each["review_id"] for each in found["verdicts"]]

        first = ask((BLANK, LEFT, BLANK), "order-1")
        assert ask((BLANK, LEFT, BLANK), "order-1") == first
        assert first[0] != first[2]
        assert ask((BLANK,), "order-2") != first[:1]
        other = gateway.with_key("infer")
        assert ask((BLANK,), "order-1", **other) != first[:1]
        assert len(gateway.rows(reviews)) == 4
        assert care.check(gateway.store) == ()


def test_a_random_share_of_accepted_rows_is_kept_and_not_told(tmp_path: Path) -> None:
    with opened(tmp_path, accepted_sample=0.5, secret="ours") as gateway:
        for number in range(40):
            sent = {"x-request-id": f"r{number}"}
            found = gateway.client.post(CLASSIFY, json=body(LEFT, RIGHT), headers=sent).json()
            assert [each["review_id"] for each in found["verdicts"]] == ["", ""]
        counts = gateway.app.state.stored.recorder.counts
        wait_for(lambda: counts().kept >= 40 + len(gateway.rows(reviews)) > 60)
        drawn = gateway.rows(reviews)
        assert {row["origin"] for row in drawn} == {"sample"}
        assert 24 <= len(drawn) <= 56  # of 80, p 0.5: false alarm < 1 in 3,000
        name = drawn[0]["id"]
        assert gateway.client.get(f"/v1/verdicts/{name}").status_code == 404
    with opened(tmp_path / "all", accepted_sample=1) as gateway:
        gateway.client.post(CLASSIFY, json=body(LEFT, BLANK))
        wait_for(lambda: len(gateway.rows(reviews)) == 2)
        assert {row["origin"] for row in gateway.rows(reviews)} == {"sample", "suspicious"}


def broken(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("buckler.store.blobs._write_local", full)


def metric(gateway: Any, name: str) -> float:
    lines = gateway.client.get("/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


def test_a_full_disk_fails_closed_tells_and_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as gateway:
        ready = "/v2/health/ready"
        with monkeypatch.context() as patched:
            broken(gateway, patched)
            found = gateway.client.post(CLASSIFY, json=body(LEFT, BLANK))
            assert found.status_code == 503
            assert found.headers["retry-after"] == "1"
            assert found.json() == {
                "error": "an input must be reviewed and cannot be kept now, so it is not "
                "answered: try again"
            }
            assert gateway.client.post(CLASSIFY, json=body(LEFT)).status_code == 200
            sentence = "the gateway is not ready: its store cannot be used"
            assert gateway.client.get(ready).json()["error"] == sentence
            assert gateway.client.get("/v2/models/buckler/ready").status_code == 503
            assert metric(gateway, "buckler_store_up") == metric(gateway, "buckler_ready") == 0
            assert metric(gateway, "buckler_unkept_rows_total") == 1
            assert (
                'buckler_refusals_total{reason="store"} 1.0' in gateway.client.get("/metrics").text
            )
        wait_for(lambda: gateway.client.get(ready).status_code == 200)
        assert gateway.client.post(CLASSIFY, json=body(LEFT, BLANK)).status_code == 200
        assert metric(gateway, "buckler_recorded_rows_total") == 1
        assert metric(gateway, "buckler_recorded_groups_total") == 1
        assert len(gateway.rows(reviews)) == 1
        assert care.check(gateway.store) == ()


def test_degrade_answers_without_an_id_and_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path, on_store_down="degrade") as gateway:
        with monkeypatch.context() as patched:
            broken(gateway, patched)
            found = gateway.client.post(CLASSIFY, json=body(LEFT, BLANK)).json()["verdicts"]
            assert [(v["status"], v["review_id"]) for v in found] == [
                ("ACCEPTED", ""),
                ("SUSPICIOUS", ""),
            ]
            assert gateway.client.get("/v2/health/ready").status_code == 200
            assert metric(gateway, "buckler_degraded_rows_total") == 1
            assert metric(gateway, "buckler_store_up") == 0
        wait_for(lambda: metric(gateway, "buckler_store_up") == 1)
        assert gateway.client.post(CLASSIFY, json=body(BLANK)).json()["verdicts"][0]["review_id"]


def test_the_quota_of_what_was_refused_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(tmp_path) as gateway:
        made = add_key(
            gateway.store, "few", ["infer"], time.time(), "test", rows_per_s=0.001, burst=2
        )[1]
        gateway.app.state.stored.keys.refresh()
        headers = {"x-api-key": made}
        with monkeypatch.context() as patched:
            broken(gateway, patched)
            for _ in range(4):
                found = gateway.client.post(CLASSIFY, json=body(BLANK), headers=headers)
                assert found.status_code == 503
        wait_for(lambda: gateway.app.state.stored.recorder.up)
        codes = [
            gateway.client.post(CLASSIFY, json=body(BLANK), headers=headers).status_code
            for _ in range(3)
        ]
        assert codes == [200, 200, 429]


def test_image_files_that_wait_are_bounded(tmp_path: Path) -> None:
    class Waits:
        async def answer(self, client: str, x: object, until: float) -> None:
            await go.wait()

    async def run() -> None:
        nonlocal go
        go = asyncio.Event()
        desk = Desk(Waits(), Quota(), 1.0, 100)  # type: ignore[arg-type]
        large = Inputs(LEFT, (b"x" * 60,))
        first = asyncio.ensure_future(desk.answer(LOCAL, "a", large, 0.0))
        await asyncio.sleep(0)
        with pytest.raises(RefusedError, match="60 bytes of images wait"):
            await desk.answer(LOCAL, "b", large, 0.0)
        more = asyncio.ensure_future(desk.answer(LOCAL, "c", Inputs(LEFT), 0.0))
        go.set()
        await asyncio.gather(first, more)
        await desk.answer(LOCAL, "d", Inputs(LEFT, (b"x" * 900,)), 0.0)

    go: asyncio.Event
    asyncio.run(run())


def test_keys_of_the_store_count_within_a_second_and_those_of_a_file_beside_them(
    tmp_path: Path,
) -> None:
    file, text = tmp_path / "keys.toml", fresh()
    file.write_text(f'[[key]]\nid="shop"\ndigest="{digest_of(text)}"\nroles=["infer"]\n')
    with opened(tmp_path, keys_file=file) as gateway:

        def code(key: str) -> int:
            headers = {"x-api-key": key}
            return gateway.client.post(CLASSIFY, json=body(LEFT), headers=headers).status_code

        assert code(text) == 200
        assert code("bk_no") == 401
        made = new_key(gateway.store, "infer")
        wait_for(lambda: code(made) == 200)
        (key,) = [k for k in all_keys(gateway.store) if k.roles == {"infer"}]
        revoke_key(gateway.store, key.id, time.time(), "test")
        wait_for(lambda: code(made) == 401)


def test_a_store_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a store is given as sqlite"):
        create_app(tiny_guard(), settings(store="mysql://u:hush@h/d"))
    with pytest.raises(StoreDownError, match="the store cannot be used now"):
        create_app(
            tiny_guard(), settings(store="postgresql://u@127.0.0.1:1/d", inputs=str(tmp_path))
        )
    for name in ("inputs", "webhook"):
        with pytest.raises(UsageError, match=f"^{name} needs a store: set BUCKLER_STORE$"):
            Settings.read(**{name: "x"})


def test_the_url_of_a_store_is_never_shown(tmp_path: Path) -> None:
    found = settings(store="postgresql://u:hush@h/d", webhook="https://h/hush")
    assert "hush" not in f"{found!r} {found.model_dump()} {found.model_dump_json()}"
    for name in ("store", "webhook", "webhook_secret"):
        with pytest.raises(UsageError) as caught:
            Settings.read(**{"store": "x", name: ["hush"]})
        assert "hush" not in str(caught.value)
