"""files: whole or not at all."""

import hashlib
import os
from pathlib import Path

import pytest

from buckler import files
from buckler.errors import DataError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def broken_disk(*_: object) -> None:
    raise OSError(28, "No space left on device")


def half_written(folder: Path) -> None:
    (folder / "half").write_text("half")
    raise FloatingPointError


def test_write_bytes_makes_folders_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b.bin"
    files.write_bytes(target, b"one")
    files.write_bytes(target, b"two")
    assert target.read_bytes() == b"two"
    assert names(target.parent) == ["b.bin"]


def test_write_text_is_utf8(tmp_path: Path) -> None:
    files.write_text(tmp_path / "t", "L∞ Ω")
    assert (tmp_path / "t").read_bytes() == "L∞ Ω".encode()


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "b.bin"
    files.write_bytes(target, b"old")
    monkeypatch.setattr(os, "fsync", broken_disk)
    with pytest.raises(
        DataError, match=r"b\.bin cannot be written: No space left on device\. What"
    ):
        files.write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["b.bin"]


def test_a_folder_in_the_way_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="taken cannot be written: Is a directory"):
        files.write_bytes(tmp_path / "taken", b"x")
    assert names(tmp_path) == ["taken"]


def test_json_round_trip_has_one_canonical_text(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a", {"b": 1, "a": [1.5, None]})
    files.write_json(tmp_path / "b", {"a": [1.5, None], "b": 1})
    assert files.read_json(tmp_path / "a") == {"a": [1.5, None], "b": 1}
    assert files.sha256(tmp_path / "a") == files.sha256(tmp_path / "b")


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a", {"rate": float("nan")})
    assert names(tmp_path) == []


def test_read_json_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist: run the step that writes it"):
        files.read_json(tmp_path / "none")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00"])
def test_read_json_refuses_what_is_no_json(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read as JSON .*: write it anew"):
        files.read_json(tmp_path / "a")


def test_read_json_wants_an_object(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("[1]")
    with pytest.raises(DataError, match=r"must hold a JSON object\. Got list"):
        files.read_json(tmp_path / "a")


def test_new_folder_replaces_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    for name in ("first", "second"):
        with files.new_folder(target) as folder:
            (folder / name).write_text(name)
    assert names(target) == ["second"]
    assert names(target.parent) == ["bundle"]


def test_new_folder_vanishes_when_the_block_fails(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with files.new_folder(target) as folder:
        (folder / "old").write_text("old")
    with pytest.raises(FloatingPointError), files.new_folder(target) as folder:
        half_written(folder)
    assert names(target) == ["old"]
    assert names(tmp_path) == ["bundle"]


def test_new_folder_on_a_full_disk(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    with files.new_folder(target) as folder:
        (folder / "old").write_text("old")
    sentence = r"bundle cannot be written: No space left on device\. What was there before is"
    with pytest.raises(DataError, match=sentence), files.new_folder(target):
        broken_disk()
    assert names(target) == ["old"]
    assert names(tmp_path) == ["bundle"]


def test_new_folder_puts_the_old_one_back_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    with files.new_folder(target) as folder:
        (folder / "old").write_text("old")
    rename = Path.rename

    def no_second_rename(self: Path, other: Path) -> Path:
        if Path(other) == target and not self.name.endswith(".old"):
            broken_disk()
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", no_second_rename)
    with pytest.raises(DataError, match="cannot be written"), files.new_folder(target) as folder:
        (folder / "new").write_text("new")
    assert names(target) == ["old"]
    assert names(tmp_path) == ["bundle"]


def test_sha256_reads_in_blocks(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than two blocks of 1 MiB
    (tmp_path / "big").write_bytes(content)
    assert files.sha256(tmp_path / "big") == hashlib.sha256(content).hexdigest()


def test_a_write_that_fails_inside_names_the_final_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    monkeypatch.setattr(os, "fsync", broken_disk)
    with pytest.raises(DataError) as caught, files.new_folder(target) as folder:
        files.write_bytes(folder / "a", b"x")
    assert str(caught.value).startswith(f"{target / 'a'} cannot be written: No space left")
    assert names(tmp_path) == []
