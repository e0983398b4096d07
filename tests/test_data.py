"""data: what can be read, what is refused, and splits that share no row."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from buckler import data
from buckler.errors import DataError

RNG = np.random.default_rng(0)
X = RNG.random((120, 1, 4, 5)).astype(np.float32)
Y = np.arange(120) % 3
BYTES = RNG.integers(0, 256, (120, 4, 5, 3)).astype(np.uint8)


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "d.npz"
    np.savez(path, **arrays)
    return path


def rows(dataset: data.Dataset) -> torch.Tensor:
    return torch.cat([dataset[split].x for split in data.SPLITS])


def test_digits() -> None:
    digits = data.load("digits")
    sizes = {split: len(digits[split]) for split in data.SPLITS}
    assert sum(sizes.values()) + digits.duplicates == 1797
    assert sizes["fit"] > sizes["test"] > sizes["calibrate"] > sizes["select"] > sizes["verify"]
    assert digits.spec.shape == (1, 8, 8)
    assert digits.spec.class_names == tuple("0123456789")
    assert bool(digits.spec.on_grid(rows(digits)).all())
    assert all(len(digits[split].y.unique()) == 10 for split in data.SPLITS)


def test_digits_are_scikit_learns_digits() -> None:
    from sklearn.datasets import load_digits

    raw = load_digits()
    levels = raw.images.astype(np.uint8)
    known = {image.tobytes(): int(y) for image, y in zip(levels, raw.target, strict=True)}
    digits = data.load("digits")
    for split in data.SPLITS:
        images = (digits[split].x[:, 0] * 16).round().byte().numpy()
        assert [known[image.tobytes()] for image in images] == digits[split].y.tolist()


def test_the_seed_decides_the_splits() -> None:
    one, again, other = data.load("digits"), data.load("digits"), data.load("digits", seed=1)
    assert one.digest() == again.digest() != other.digest()
    assert torch.equal(one["test"].x, again["test"].x)
    assert len(set(one["test"].hashes) & set(other["test"].hashes)) < len(one["test"])


@pytest.mark.parametrize("train_and_test", [False, True])
def test_no_row_is_in_two_splits_and_duplicates_are_dropped(
    tmp_path: Path, train_and_test: bool
) -> None:
    x, y = np.concatenate([X, X[:30]]), np.concatenate([Y, Y[:30]])
    if train_and_test:  # 30 rows of the training part are in the test part too, 1 twice
        path = npz(tmp_path, x_train=X, y_train=Y, x_test=x[90:], y_test=y[90:])
        expected = 30 + 30
    else:
        path = npz(tmp_path, x=x, y=y)
        expected = 30
    dataset = data.load(path)
    hashes = [set(dataset[split].hashes) for split in data.SPLITS]
    assert sum(map(len, hashes)) == len(set.union(*hashes)) == len(rows(dataset)) == 120
    assert dataset.duplicates == expected
    assert len({row.numpy().tobytes() for row in rows(dataset)}) == 120
    if train_and_test:
        held = {row.tobytes() for row in x[90:]}
        assert not held & {row.numpy().tobytes() for row in dataset["fit"].x}


def test_labels_stay_with_their_rows(tmp_path: Path) -> None:
    label = {row.tobytes(): int(y) for row, y in zip(X, Y, strict=True)}
    dataset = data.load(npz(tmp_path, x=X, y=Y))
    for split in data.SPLITS:
        part = dataset[split]
        assert part.y.dtype == torch.int64
        assert [label[row.numpy().tobytes()] for row in part.x] == part.y.tolist()
        assert len(part.hashes) == len(part) == len(part.x)


@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (BYTES, (3, 4, 5)),
        (BYTES.transpose(0, 3, 1, 2), (3, 4, 5)),
        (BYTES[..., :1], (1, 4, 5)),
        (BYTES[..., 0], (1, 4, 5)),
    ],
)
def test_pixels_in_any_layout(tmp_path: Path, x: np.ndarray, shape: tuple[int, ...]) -> None:
    dataset = data.load(npz(tmp_path, x=x, y=Y), class_names=("a", "b", "c"))
    assert dataset.spec.shape == shape
    assert dataset.spec.levels == 256
    assert dataset.spec.class_names == ("a", "b", "c")
    planes = BYTES.transpose(0, 3, 1, 2)[:, : shape[0]]
    known = {row.tobytes() for row in planes}
    got = (rows(dataset) * 255).round().byte().numpy()
    assert {row.tobytes() for row in got} == known


def test_rows_of_features(tmp_path: Path) -> None:
    x = RNG.normal(size=(90, 7)).clip(-3, 3)
    dataset = data.load(npz(tmp_path, x=x, y=Y[:90]), box=(-3.0, 3.0))
    assert dataset.spec.shape == (7,)
    assert dataset.spec.levels == 0
    assert dataset["fit"].x.dtype == torch.float32


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"x": X}, r"must hold x and y, or x_train, .*Missing: y; found: x$"),
        ({}, r"Missing: x, y; found: nothing"),
        ({"x_train": X, "y_train": Y}, r"Missing: x_test, y_test; found: x_train, y_train"),
        ({"x": X[:0], "y": Y[:0]}, r"no data: at least one row is needed\. .*d\.npz has 0"),
        ({"x": X, "y": Y * 0}, r"at least 2 classes\. .*has labels of 1"),
        ({"x": X, "y": Y * 0 + 2}, "the training rows hold one class only"),
        ({"x": X, "y": Y - 1}, r"labels must be 0 to 1 for the 2 classes\. Got -1 to 1"),
        ({"x": X, "y": Y[:50]}, r"labels must be one a row, \(120,\)\. Got the shape \(50,\)"),
        ({"x": X, "y": Y[:, None]}, r"Got the shape \(120, 1\)"),
        ({"x": X, "y": Y / 2}, r"labels must be whole numbers 0\.\.k-1\. Got float64"),
        ({"x": (X * 9).astype(int), "y": Y}, r"must be uint8 or uint16 pixels or floats\. Got int"),
        ({"x": X * 255, "y": Y}, r"must lie in \[0, 1\]\. Got .*: divide by 255\?"),
        ({"x": np.where(X > 0.99, np.nan, X), "y": Y}, r"must be finite\. Got NaN or infinity in"),
        ({"x": np.array([{}, []], dtype=object), "y": Y[:2]}, "cannot be read as .npz: Object"),
        ({"x": X[:5], "y": Y[:5]}, "too little data: no rows are left for select, verify"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, :, :3], "y_test": Y},
            r"must have the shape \(n, 1, 4, 5\)\. Got \(120, 1, 3, 5\)",
        ),
    ],
)
def test_npz_refusals(tmp_path: Path, arrays: dict[str, np.ndarray], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        data.load(npz(tmp_path, **arrays))


def test_labels_beyond_the_class_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels must be 0 to 1 for the 2 classes\. Got 0 to 2"):
        data.load(npz(tmp_path, x=X, y=Y), class_names=("a", "b"))


def test_damaged_npz_files(tmp_path: Path) -> None:
    """A cut zip, a damaged header, a .npy in disguise, no bytes, no array: one sentence each."""
    path = tmp_path / "d.npz"
    np.savez_compressed(path, x=X, y=Y)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[200] ^= 255
    with (tmp_path / "array.npy").open("wb") as stream:
        np.save(stream, X)
    for content in (
        whole[: len(whole) // 2],
        bytes(damaged),
        (tmp_path / "array.npy").read_bytes(),
        b"",
        b"hello",
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"d\.npz cannot be read as \.npz: "):
            data.load(path)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "opened",))

    path = npz(tmp_path, x=np.array([Trap()], dtype=object), y=Y[:1])
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        data.load(path)
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("source", ["nothing", "missing.csv"])
def test_an_unknown_source(source: str) -> None:
    with pytest.raises(DataError, match=rf"Got '{source}', which does not exist"):
        data.load(source)


def test_a_missing_npz(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.npz cannot be read as \.npz: .*No such file"):
        data.load(tmp_path / "none.npz")


def test_an_existing_file_of_another_kind(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(DataError, match=r"must be 'digits', a \.npz file, or a folder .*a\.csv'$"):
        data.load(tmp_path / "a.csv")


def image_folder(folder: Path, mode: str = "RGB", per_class: int = 25) -> Path:
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir()
        for i in range(per_class):
            pixels = BYTES[number * 50 + i]
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{i:03}.png")
    return folder


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 1)])
def test_a_folder_of_images(tmp_path: Path, mode: str, channels: int) -> None:
    dataset = data.load(image_folder(tmp_path, mode))
    assert dataset.spec.shape == (channels, 4, 5)
    assert dataset.spec.class_names == ("cat", "dog")
    assert dataset.spec.levels == 256
    assert len(rows(dataset)) == 50
    if mode == "RGB":
        cats = {BYTES[i].transpose(2, 0, 1).tobytes() for i in range(25)}
        for split in data.SPLITS:
            for x, y in zip(dataset[split].x, dataset[split].y.tolist(), strict=True):
                assert ((x * 255).round().byte().numpy().tobytes() in cats) == (y == 0)


def test_folder_class_names_keep_the_callers_order(tmp_path: Path) -> None:
    dataset = data.load(image_folder(tmp_path), class_names=("dog", "cat"))
    assert dataset.spec.class_names == ("dog", "cat")


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"must have one folder of images a class, 2 or more\. Got"):
        data.load(tmp_path)
    (tmp_path / "cat").mkdir()
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match="holds no files in cat, dog"):
        data.load(tmp_path)
    (tmp_path / "cat" / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"every class must have images\. .* no files in dog: add"):
        data.load(tmp_path)
    Image.fromarray(BYTES[1]).save(tmp_path / "dog" / "b.png")
    with pytest.raises(DataError, match=r"a\.png: the file must be an image\. Got cannot identify"):
        data.load(tmp_path)
    Image.fromarray(BYTES[0]).save(tmp_path / "cat" / "a.png")
    (tmp_path / "dog" / "b.png").write_text("no image")
    with pytest.raises(DataError, match=r"b\.png: the file must be an image \(PNG"):
        data.load(tmp_path)
    Image.fromarray(BYTES[0].transpose(1, 0, 2)).save(tmp_path / "dog" / "b.png")
    with pytest.raises(DataError, match=r"b\.png: images must be 5 x 4 pixels\. Got 4 x 5"):
        data.load(tmp_path)


def test_a_sample_is_drawn_at_random_by_seed() -> None:
    part = data.load("digits")["test"]
    x, y, picked = part.sample(50, seed=0)
    assert torch.equal(part.x[picked], x)
    assert torch.equal(part.y[picked], y)
    assert len(picked.unique()) == 50
    assert picked.tolist() != list(range(50))
    assert torch.equal(part.sample(50, seed=0)[2], picked)
    assert not torch.equal(part.sample(50, seed=1)[2], picked)
    assert torch.equal(part.sample(10**6, seed=0)[2], torch.arange(len(part)))


def test_a_damaged_first_image_is_named(tmp_path: Path) -> None:
    """Pillow raises a plain OSError over this header, not UnidentifiedImageError."""
    image_folder(tmp_path)
    (tmp_path / "cat" / "000.png").write_bytes(b"BM" + bytes(12) + b"\x63" + bytes(100))
    with pytest.raises(DataError, match=r"000\.png: the file must be an image\. Got Unsupported"):
        data.load(tmp_path)


def test_hidden_entries_of_an_image_folder_are_no_data(tmp_path: Path) -> None:
    image_folder(tmp_path)
    (tmp_path / ".git").mkdir()
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"no image")
    dataset = data.load(tmp_path)
    assert dataset.spec.class_names == ("cat", "dog")
    assert len(rows(dataset)) == 50


def test_rows_join_fit_and_nothing_else(dataset):
    x = torch.full((2, 1, 8, 8), 0.25)
    more = data.Split(x, torch.tensor([0, 1]), data.row_hashes(x))
    found = dataset.joined(more)
    assert len(found["fit"]) == len(dataset["fit"]) + 2
    assert found["fit"].hashes[-2:] == more.hashes
    assert bool((found["fit"].y[-2:] == more.y).all())
    for name in data.SPLITS[1:]:
        assert found[name] is dataset[name]
    assert found.digest() != dataset.digest()
    for name in data.SPLITS[1:]:
        row = dataset[name].x[:1]
        with pytest.raises(DataError, match=f"in no other split. Got 1 of {name}"):
            dataset.joined(data.Split(row, torch.tensor([0]), data.row_hashes(row)))
