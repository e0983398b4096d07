"""What a person is shown of an input is what the guard saw."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from buckler.defenses import JPEG, GaussianNoise, Median
from buckler.errors import DataError
from buckler.inputs import InputSpec
from buckler.serve import looker as module
from buckler.serve.looker import Looker, decoded, look
from buckler.store.blobs import Blobs

from .desks import picture, with_view
from .tiny import LEFT, SPEC, tiny_guard


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(str(tmp_path / "blobs"))


def pixels(png: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(png)))


def test_it_shows_what_the_guard_answers() -> None:
    guard = replace(with_view(), secret=b"s")
    x = SPEC.decode(picture(3))
    seen, (verdict,) = look(guard, x, True), guard.judge(x)
    (weight, vote) = seen.votes[0]
    assert (weight, vote.prediction) == (1.0, verdict.prediction)
    assert vote.probability == pytest.approx(verdict.confidence, abs=1e-6)
    assert max(seen.probabilities) == pytest.approx(verdict.confidence, abs=1e-6)
    assert (pixels(seen.picture or b"") == pixels(picture(3))).all()
    assert seen.size == (8, 8)


def test_a_difference_is_ten_times_as_strong_around_grey() -> None:
    x = torch.full((1, 1, 8, 8), 100 / 255)
    x[0, 0, 4, 4] = 110 / 255  # a median takes it away: 10 levels down, 100 shown
    (view,) = look(with_view(), x, True).views
    assert (view.name, view.own) == ("median3", True)
    drawn = pixels(view.difference).astype(int)
    assert drawn[4, 4] in (27, 28)
    drawn[4, 4] = 128
    assert (drawn == 128).all()


def test_what_the_members_predict_from_comes_first_and_helps_where_there_is_nothing() -> None:
    x = SPEC.decode(picture(1))
    path = replace(tiny_guard(), path=(Median(3), JPEG(75)), views=(Median(2),))
    assert [view.name for view in look(path, x, True).views] == ["median3 then jpeg75", "median2"]
    helped = look(tiny_guard(), x, True)
    assert [(view.name, view.own) for view in helped.views] == [
        ("median3", False),
        ("jpeg75", False),
    ]
    wide = replace(SPEC, box=(-1.0, 3.0))
    scaled = look(replace(tiny_guard(), spec=wide), x * 4 - 1, True)
    for one, other in zip(helped.views, scaled.views, strict=True):
        assert (pixels(one.picture) == pixels(other.picture)).all()


def test_a_random_guard_is_looked_at_with_the_draw_it_served() -> None:
    guard = replace(tiny_guard(), path=(GaussianNoise(0.2),), secret=b"the operator's")
    x = SPEC.decode(picture(2))
    assert look(guard, x, True).votes[0][1].probability == pytest.approx(
        guard.judge(x)[0].confidence, abs=1e-6
    )


def test_anothers_input_gets_no_answer_of_ours() -> None:
    seen = look(with_view(), LEFT, False)
    assert (seen.views, seen.votes, seen.probabilities) == ((), (), ())


def test_numbers_in_every_form_they_are_kept_in() -> None:
    spec = InputSpec((2, 3), ("a", "b"), (0.0, 10.0))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    stream = io.BytesIO()
    np.save(stream, x)
    for content, kind in ((stream.getvalue(), "application/x-npy"), (b"[0,1,2,3,4,5]", "a/json")):
        assert decoded(content, kind, spec).tolist() == [x.tolist()]
    pickled = io.BytesIO()
    np.save(pickled, np.array([print], dtype=object), allow_pickle=True)
    for content, kind in (
        (pickled.getvalue(), "application/x-npy"),
        (b"", "application/x-npy"),
        (b"[1, 2]", "application/json"),
        (b'["x"]', "application/json"),
        (b"{", "application/json"),
        (b"[0,1,2,3,4,11]", "application/json"),
        (b"[0,1,2,3,4,NaN]", "application/json"),
        (picture(), "image/png"),
    ):
        with pytest.raises(DataError):
            decoded(content, kind, spec)


def test_each_input_is_looked_at_once_while_it_is_kept(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def counted(*given: object) -> object:
        looked.append(given)
        return look(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "look", counted)
    monkeypatch.setattr(module, "_KEPT", 2)
    names = [blobs.put(picture(number)) for number in range(3)]

    async def ask() -> None:
        seeing = Looker(with_view(), blobs)
        await asyncio.gather(*(seeing.look(names[0], "image/png", True) for _ in range(8)))
        assert len(looked) == 1
        await seeing.look(names[0], "image/png", False)
        assert len(looked) == 2
        for name in names:
            await seeing.look(name, "image/png", True)
        assert len(looked) == 4
        await seeing.look(names[2], "image/png", True)
        assert len(looked) == 4
        await seeing.look(names[0], "image/png", True)
        assert len(looked) == 5
        assert seeing._bytes == sum(each.nbytes for each in seeing._seen.values())
        monkeypatch.setattr(module, "_KEPT_BYTES", 10)
        await seeing.look(names[1], "image/png", True)
        assert (len(seeing._seen), seeing._bytes) == (0, 0)

    asyncio.run(ask())


def test_a_guard_that_hangs_is_not_waited_for(
    blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go = threading.Event()
    monkeypatch.setattr(module, "look", lambda *_: go.wait(30))
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    name = blobs.put(picture())

    async def ask() -> None:
        try:
            with pytest.raises(TimeoutError):
                await Looker(with_view(), blobs).look(name, "image/png", True)
        finally:
            monkeypatch.setattr(module, "look", look)
            go.set()

    asyncio.run(ask())
