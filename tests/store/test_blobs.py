"""Inputs by their sha256: written whole, once, and known to be what was kept."""

import hashlib
import os

import pytest

from buckler.errors import DataError, StoreDownError, UsageError
from buckler.store.blobs import Blobs


@pytest.fixture(params=["local", "memory"])
def blobs(request, tmp_path):
    if request.param == "local":
        return Blobs(str(tmp_path / "kept"))
    return Blobs(f"memory://{tmp_path.name}/kept")


def test_what_was_put_comes_back(blobs):
    content = bytes(range(256)) * 40
    digest = blobs.put(content)
    assert digest == hashlib.sha256(content).hexdigest()
    assert blobs.get(digest) == content
    assert blobs.has(digest)
    assert blobs.digests() == {digest}
    assert blobs.keep(content) == (digest, False)
    blobs.drop(digest)
    blobs.drop(digest)
    assert not blobs.has(digest)
    assert blobs.digests() == set()
    with pytest.raises(DataError, match=f"the input {digest} is missing from"):
        blobs.get(digest)


def test_a_blob_is_never_rewritten_and_a_changed_one_is_told(tmp_path):
    blobs = Blobs(str(tmp_path))
    digest = blobs.put(b"content")
    path = tmp_path / digest[:2] / digest
    path.write_bytes(b"changed")
    before = path.stat().st_mtime_ns
    blobs.put(b"content")
    assert path.stat().st_mtime_ns == before
    with pytest.raises(DataError, match="is not what was kept: it changed"):
        blobs.get(digest)


def test_a_local_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done: list[str] = []
    sync, rename = os.fsync, type(tmp_path).rename

    def synced(handle):
        done.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")  # noqa: PTH112
        sync(handle)

    def renamed(self, target):
        done.append("rename")
        return rename(self, target)

    blobs = Blobs(str(tmp_path / "kept"))
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(type(tmp_path), "rename", renamed)
    blobs.put(b"content")
    assert done == ["file", "rename", "folder"]


def test_a_full_disk_leaves_no_half_file(tmp_path, monkeypatch):
    blobs = Blobs(str(tmp_path))
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(StoreDownError, match=r"cannot be kept at .*: No space left"):
        blobs.put(b"content")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    assert blobs.get(blobs.put(b"content")) == b"content"


def test_a_place_that_cannot_be_used_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="inputs must be kept in a folder"):
        Blobs(str(tmp_path / "file" / "below"))
    with pytest.raises(UsageError, match="Got 'nowhere://x'"):
        Blobs("nowhere://x")


@pytest.mark.parametrize("digest", ["../../etc/passwd", "", "A" * 64])
def test_only_a_digest_names_a_blob(tmp_path, digest):
    with pytest.raises(DataError, match="64 hex digits"):
        Blobs(str(tmp_path)).get(digest)
