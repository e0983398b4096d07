"""The bundle: what goes in comes out, and nothing altered or foreign is taken."""

import errno
import json
import shutil
from dataclasses import replace

import pytest

from buckler import files
from buckler.data import SPLITS
from buckler.errors import BundleError, DataError, PolicyError
from buckler.guard import article, calibrate, load_bundle, write_bundle
from buckler.guard import bundle as bundles
from buckler.guard.bundle import MemberSource, manifest_digest, read_manifest

FACTORY = "tests.conftest:tiny_net"


@pytest.fixture(scope="module")
def guard(dataset, trained):
    return calibrate(
        dataset,
        [trained, trained],
        [0.75, 0.25],
        detectors=("confidence", "views", "mahalanobis", "forest"),
        review_rate=0.1,
    )


@pytest.fixture
def written(guard, dataset, tmp_path):
    sources = [MemberSource("one", FACTORY), MemberSource("two", FACTORY)]
    digest = write_bundle(guard, dataset, sources, tmp_path / "bundle")
    return tmp_path / "bundle", digest


def test_round_trip_gives_the_same_verdicts(written, guard, dataset):
    path, digest = written
    loaded = load_bundle(path, factories=[FACTORY], digest=digest)
    x = dataset["test"].x
    assert loaded.digest == digest
    before = guard.judge(x)
    assert loaded.judge(x) == [replace(verdict, bundle=digest) for verdict in before]


def test_the_articles_guard_travels_too(dataset, trained, tmp_path):
    guard = article(dataset, [trained])
    write_bundle(guard, dataset, [MemberSource("one", FACTORY)], tmp_path / "b")
    loaded = load_bundle(tmp_path / "b", factories=[FACTORY], secret=b"s")
    x = dataset["test"].x
    same = replace(guard, secret=b"s", digest=loaded.digest)
    assert loaded.judge(x) == same.judge(x)


def test_any_changed_byte_is_refused(written, tmp_path):
    path, _ = written
    names = sorted(str(p.relative_to(path)) for p in path.rglob("*") if p.is_file())
    assert len(names) == 6
    for name in names:
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(BundleError):
            load_bundle(copy, factories=[FACTORY])
        shutil.rmtree(copy)


def test_another_digest_is_refused(written):
    with pytest.raises(PolicyError, match="digest must be"):
        load_bundle(written[0], factories=[FACTORY], digest="0" * 64)


def test_a_factory_the_operator_did_not_list_never_runs(written):
    with pytest.raises(PolicyError, match=r"--factory tests.conftest:tiny_net"):
        load_bundle(written[0])


@pytest.mark.parametrize("content", [None, "", "not toml [", "format = 99\n"])
def test_a_foreign_folder_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "bundle.toml").write_text(content)
        (tmp_path / "DIGEST").write_text("x")
    with pytest.raises(BundleError, match=r"no bundle|cannot be read|format"):
        load_bundle(tmp_path)


def test_a_missing_member_is_refused(written):
    (written[0] / "members" / "two.safetensors").unlink()
    with pytest.raises(BundleError, match="not whole"):
        load_bundle(written[0], factories=[FACTORY])


def test_a_manifest_that_points_outside_is_refused(written):
    path, _ = written
    manifest, _ = read_manifest(path)
    manifest["files"]["../../etc/passwd"] = "0"
    import tomli_w

    (path / "bundle.toml").write_text(tomli_w.dumps(manifest))
    (path / "DIGEST").write_text(manifest_digest(manifest))
    with pytest.raises(BundleError, match="outside the bundle"):
        load_bundle(path, factories=[FACTORY])


def test_other_pixel_libraries_are_refused(written, monkeypatch):
    monkeypatch.setattr(bundles, "version", lambda name: "0.0")
    with pytest.raises(BundleError, match="pixels may differ"):
        load_bundle(written[0], factories=[FACTORY])


def test_splits_in_the_bundle_do_not_intersect(written):
    path, _ = written
    hashes = json.loads((path / "splits.json").read_text())
    assert sorted(hashes) == sorted(SPLITS)
    every = [row for rows in hashes.values() for row in rows]
    assert len(every) == len(set(every)) == 400


def test_a_full_disk_leaves_the_old_bundle(written, guard, dataset, monkeypatch):
    path, digest = written
    sources = [MemberSource("one", FACTORY), MemberSource("two", FACTORY)]
    real = files.write_bytes

    def full(target, content):
        if target.name == "arrays.safetensors":
            raise OSError(errno.ENOSPC, "No space left on device")
        real(target, content)

    monkeypatch.setattr(files, "write_bytes", full)
    with pytest.raises(DataError, match=r"No space left on device. What was there before"):
        write_bundle(guard, dataset, sources, path)
    monkeypatch.undo()
    assert load_bundle(path, factories=[FACTORY]).digest == digest
    assert [p.name for p in path.parent.iterdir()] == ["bundle"]


def test_writing_again_replaces_and_evidence_of_the_old_one_goes(written, guard, dataset):
    path, digest = written
    files.write_json(path / "evidence" / "x.json", {"digest": digest})
    sources = [MemberSource("one", FACTORY), MemberSource("two", FACTORY)]
    assert write_bundle(guard, dataset, sources, path) == digest
    assert not (path / "evidence").exists()


def test_no_pickle_is_in_a_bundle(written):
    for path in written[0].rglob("*"):
        if path.is_file():
            assert not path.read_bytes().startswith((b"\x80", b"PK"))
