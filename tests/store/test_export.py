"""Decided items go straight back into training, each with where it came from."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from buckler import data
from buckler.errors import DataError
from buckler.ops.review import Policy
from buckler.store import care
from buckler.store.decide import decide
from buckler.store.export import Exported, export
from buckler.store.reviews import claim
from tests.store.made import add, item
from tests.store.test_reviews import answer

POLICY = Policy()


def png(number):
    pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue(), pixels


def settle(store, rows, decisions):
    names = add(store, *rows)
    for _ in rows:
        found = claim(store, "ann", 1.0, POLICY)
        kind, label = decisions[names.index(found.id)]
        decide(store, answer(found, kind, label), 1.0, POLICY)
    return names


def test_images_come_back_with_their_classes(lite, tmp_path):
    rows = [item(n, content=png(n)[0], sampled=n % 3 == 0) for n in range(42)]
    says = [("accept", None) if n % 2 else ("label", "dog") for n in range(40)]
    names = settle(lite, rows, [*says, ("corrupted", None), ("adversarial", None)])
    add(lite, item(99))
    done = export(lite, tmp_path / "out", 2.0, "ann")
    assert done == Exported(images=40, rows=0, unlabelled=2, redacted=0)
    loaded = data.load(tmp_path / "out" / "images")
    assert loaded.spec.class_names == ("cat", "dog")
    x = torch.cat([loaded[split].x for split in data.SPLITS])
    y = torch.cat([loaded[split].y for split in data.SPLITS])
    assert len(x) == 40
    for number in range(40):
        same = (x[:, 0] * 255 - torch.from_numpy(png(number)[1]).float()).abs().amax((1, 2)) < 0.01
        assert int(same.sum()) == 1
        assert int(y[same]) == (0 if number % 2 else 1)
    lines = [json.loads(line) for line in (tmp_path / "out/items.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines} == set(names)
    one = next(line for line in lines if line["id"] == names[0])
    assert (one["label"], one["reviewers"], one["origin"]) == ("dog", ["ann"], "sample")
    assert one["said"] == [{"reviewer": "ann", "kind": "label", "label": "dog"}]
    agreed = next(line for line in lines if line["outcome"] == "accept")
    assert agreed["said"] == [{"reviewer": "ann", "kind": "accept", "label": "cat"}]
    assert (one["request_id"], one["bundle"], one["outcome"]) == ("request-0", "b" * 64, "label")
    assert (tmp_path / "out" / one["file"]).read_bytes() == png(0)[0]
    with pytest.raises(DataError, match="goes into a new folder"):
        export(lite, tmp_path / "out", 3.0, "ann")


def test_rows_of_numbers_come_back(lite, tmp_path):
    values = np.random.default_rng(0).random((40, 5)).astype(np.float32)
    rows = []
    for n, row in enumerate(values):
        stream = io.BytesIO()
        np.save(stream, row)
        content = stream.getvalue() if n % 2 else json.dumps(row.tolist()).encode()
        kind = "application/x-npy" if n % 2 else "application/json"
        rows.append(item(n, content=content, media_type=kind))
    settle(lite, rows, [("accept", None) if n % 3 else ("label", "dog") for n in range(40)])
    assert export(lite, tmp_path / "out", 2.0, "ann").rows == 40
    loaded = data.load(tmp_path / "out" / "rows.npz")
    assert loaded.spec.shape == (5,)
    assert sum(int((loaded[split].y == 1).sum()) for split in data.SPLITS) == 14


def test_a_group_goes_out_with_the_reviewer_of_its_leader(store, tmp_path):
    names = add(store, *(item(n, content=png(n)[0], fingerprint="a") for n in range(3)))
    decide(store, answer(claim(store, "ann", 0.0, POLICY), whole_group=True), 1.0, POLICY)
    care.redact(store, names[1], 2.0, "root")
    done = export(store, tmp_path / "out", 2.0, "ann")
    assert done == Exported(2, 0, 0, 1)
    lines = [json.loads(line) for line in (tmp_path / "out/items.jsonl").read_text().splitlines()]
    assert [line["reviewers"] for line in lines] == [["ann"]] * 3
    assert sum(line["file"] is None for line in lines) == 1


@pytest.mark.parametrize("label", ["../up", ".git", "a/b", " ", "x" * 101])
def test_a_label_leads_nowhere_else(lite, tmp_path, label):
    settle(lite, [item(1, content=png(1)[0])], [("label", label)])
    with pytest.raises(DataError, match="a class must be the name of a folder"):
        export(lite, tmp_path / "out", 2.0, "ann")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_read_is_named(lite, tmp_path):
    rows = [item(n, content=b"[1, 2]", media_type="application/json") for n in range(2)]
    (name, _) = settle(
        lite,
        [rows[0], item(1, content=b"[1, 2, 3]", media_type="application/json")],
        [("accept", None)] * 2,
    )
    with pytest.raises(DataError, match="must have one shape"):
        export(lite, tmp_path / "out", 2.0, "ann")
    care.erase_review(lite, name, 3.0, "root", POLICY)
    (name,) = settle(lite, [item(5, media_type="text/plain")], [("accept", None)])
    with pytest.raises(DataError, match=f"the input of {name} must be an image"):
        export(lite, tmp_path / "out", 2.0, "ann")
