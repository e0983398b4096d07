"""Images of 9 to 16 bits: what a file stores is what the classifier gets."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from buckler import data, wire
from buckler.defenses import JPEG, Median, check_transform
from buckler.errors import DataError, UsageError
from buckler.harden.choose_detectors import usual_scores
from buckler.inputs import InputSpec
from buckler.serve.tensor import rows_of

NAMES = ("normal", "pneumonia")
SOONEST = float("inf")
BOXES = [
    ((0.0, 1.0), 65536),
    ((0.0, 65535.0), 65536),
    ((0.0, 4095.0), 4096),
    ((-1024.0, 3071.0), 4096),
    ((-0.7, 0.9), 1000),
]


def spec_of(box: tuple[float, float], levels: int, side: int = 256) -> InputSpec:
    return InputSpec((1, side, side), NAMES, box, levels)


def png(stored: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(("box", "levels"), BOXES)
def test_every_level_comes_back_from_a_file_and_is_a_number_of_its_own(box, levels) -> None:
    spec = spec_of(box, levels)
    stored = (np.arange(65536) % levels).astype(np.uint16).reshape(256, 256)
    x = spec.check(spec.decode(png(stored)))
    assert len(x.unique()) == levels
    assert x.min() == torch.tensor(box[0])
    assert x.max() == torch.tensor(box[1])
    assert torch.equal(spec.snap(x), x)
    assert bool(spec.on_grid(x).all())
    assert np.array_equal(np.array(Image.open(io.BytesIO(spec.encode(x[0])))), stored)


@pytest.mark.parametrize(("box", "levels"), [((0.0, 4095.0), 4096), ((0.0, 65535.0), 65536)])
def test_raw_units_are_the_stored_numbers(box, levels) -> None:
    stored = np.random.default_rng(0).integers(0, levels, (256, 256)).astype(np.uint16)
    assert np.array_equal(spec_of(box, levels).decode(png(stored))[0, 0].numpy(), stored)


def test_hounsfield_units_are_the_stored_numbers_shifted() -> None:
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    x = spec_of((-1024.0, 3071.0), 4096, 64).decode(png(stored))[0, 0]
    assert np.abs(x.numpy() - (stored.astype(float) - 1024)).max() < 1e-3


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (png(np.zeros((4, 4), np.uint8)), "must be 16-bit grey PNG files.*Got the mode 'L'"),
        (png(np.zeros((4, 4, 3), np.uint8)), "must be 16-bit grey PNG files.*Got the mode 'RGB'"),
        (png(np.full((4, 4), 4096, np.uint16)), "must be 0 to 4095.*Got 4096"),
        (png(np.zeros((5, 4), np.uint16)), "must be 4 x 4 pixels"),
    ],
)
def test_files_of_another_depth_are_refused(content: bytes, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        spec_of((0.0, 1.0), 4096, 4).decode(content)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"shape": (3, 4, 4)}, "have one channel"),
        ({"resize": "area"}, "are not resized"),
        ({"levels": 65537}, "2 to 65536"),
    ],
)
def test_impossible_specs(fields, sentence) -> None:
    asked = {"shape": (1, 4, 4), "class_names": NAMES, "levels": 4096, **fields}
    with pytest.raises(UsageError, match=sentence):
        InputSpec(**asked)


def test_no_part_of_a_guard_may_round_to_eight_bits() -> None:
    deep, flat = spec_of((0.0, 1.0), 4096, 8), InputSpec((1, 8, 8), NAMES, levels=256)
    x = torch.rand(4, 1, 8, 8)
    with pytest.raises(UsageError, match="'jpeg75' rounds to 8 bits"):
        check_transform(JPEG(75), x, deep.box, deep.is_deep)
    check_transform(Median(3), x, deep.box, deep.is_deep)
    tried = {
        spec.is_deep: {v for s in usual_scores(spec) for v in s.views} for spec in (deep, flat)
    }
    assert tried == {True: {"median3"}, False: {"median3", "jpeg75"}}


def test_pictures_for_eyes_have_eight_bits_over_the_whole_box() -> None:
    spec = spec_of((0.0, 4095.0), 4096, 2)
    seen = np.array(
        Image.open(io.BytesIO(spec.seen(torch.tensor([[[0.0, 4095.0], [2047.0, 1.0]]]))))
    )
    assert seen.dtype == np.uint8
    assert seen.tolist() == [[0, 255], [127, 0]]


@pytest.mark.parametrize("levels", [0, 4096])
def test_arrays_and_folders_hold_the_same(tmp_path: Path, levels: int) -> None:
    stored = np.random.default_rng(1).integers(0, 4096, (60, 6, 6)).astype(np.uint16)
    y = np.arange(60) % 2
    np.savez(tmp_path / "deep.npz", x=stored, y=y)
    for label, name in enumerate(NAMES):
        (tmp_path / "deep" / name).mkdir(parents=True)
        for row in np.flatnonzero(y == label):
            (tmp_path / "deep" / name / f"{row:03}.png").write_bytes(png(stored[row]))
    box = (0.0, float((levels or 65536) - 1))
    found = [data.load(tmp_path / name, box=box, levels=levels) for name in ("deep.npz", "deep")]
    for each in found:
        assert each.spec.levels == (levels or 65536)
        assert each.spec.box == box
        rows = torch.cat([each[split].x for split in data.SPLITS]).flatten(1).numpy()
        assert sorted(map(tuple, rows)) == sorted(map(tuple, stored.reshape(60, -1)))


def test_numbers_beyond_the_levels_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "deep.npz", x=np.full((60, 4, 4), 5000, np.uint16), y=np.arange(60) % 2)
    with pytest.raises(DataError, match=r"must be 0 to 4095.*Got 5000"):
        data.load(tmp_path / "deep.npz", levels=4096)


def test_a_tensor_of_sixteen_bits_is_what_the_file_is() -> None:
    spec = spec_of((-1024.0, 3071.0), 4096, 4)
    stored = np.arange(16, dtype=np.uint16).reshape(1, 1, 4, 4) * 273
    request = wire.InferRequest({"input": stored})
    got = rows_of(request, spec, 8, SOONEST).x
    assert torch.equal(got, spec.decode(png(stored[0, 0])))
