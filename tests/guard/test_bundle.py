"""The bundle: what goes in comes out, and nothing altered or foreign is taken."""

import errno
import json
import shutil
from dataclasses import replace

import pytest
import tomli_w
from safetensors.numpy import save as safetensors

from buckler import files
from buckler.data import SPLITS
from buckler.defenses import JPEG, Median
from buckler.detectors import NAMES
from buckler.errors import BundleError, DataError, PolicyError, UsageError
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
        views=(Median(2), JPEG(75)),
        detectors=NAMES,
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


def sign(path, manifest):
    (path / "bundle.toml").write_text(tomli_w.dumps(manifest))
    (path / "DIGEST").write_text(manifest_digest(manifest))


KEYS = ("input", "members", "path", "views", "detectors", "rule", "versions", "files")


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("value", [None, 3, ["odd"], {"odd": 1}, [{"odd": [1]}]])
def test_a_signed_but_odd_manifest_is_one_sentence(written, key, value):
    path, _ = written
    manifest, _ = read_manifest(path)
    del manifest[key]
    if value is not None:
        manifest[key] = value
    sign(path, manifest)
    with pytest.raises((BundleError, UsageError)) as caught:
        load_bundle(path, factories=[FACTORY])
    assert "\n" not in str(caught.value)
    if value is None:
        sentence = (
            f"{path}'s manifest is not what Buckler writes (KeyError: '{key}'): build it anew"
        )
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("table", "key"),
    [("input", "shape"), ("rule", "kind"), ("rule", "value"), ("files", "arrays.safetensors")],
)
def test_a_signed_manifest_without_a_fact_is_one_sentence(written, table, key):
    path, _ = written
    manifest, _ = read_manifest(path)
    del manifest[table][key]
    sign(path, manifest)
    with pytest.raises(BundleError, match=r"manifest is not what Buckler writes \(.*: build it"):
        load_bundle(path, factories=[FACTORY])


@pytest.mark.parametrize("content", [b"", b"garbage!", safetensors({})])
def test_signed_arrays_that_do_not_fit_are_one_sentence(written, content):
    path, _ = written
    manifest, _ = read_manifest(path)
    (path / "arrays.safetensors").write_bytes(content)
    manifest["files"]["arrays.safetensors"] = files.sha256(path / "arrays.safetensors")
    sign(path, manifest)
    with pytest.raises(BundleError, match="manifest is not what Buckler writes"):
        load_bundle(path, factories=[FACTORY])


def test_a_date_in_the_manifest_is_one_sentence(tmp_path):
    (tmp_path / "bundle.toml").write_text("format = 1\nday = 2026-01-01\n")
    (tmp_path / "DIGEST").write_text("x")
    with pytest.raises(BundleError, match="manifest is not what Buckler writes"):
        read_manifest(tmp_path)


def test_an_input_that_cannot_be_is_still_a_usage_error(written):
    path, _ = written
    manifest, _ = read_manifest(path)
    manifest["input"]["levels"] = 1
    sign(path, manifest)
    with pytest.raises(UsageError, match="levels must be 0"):
        load_bundle(path, factories=[FACTORY])


def test_somebodys_own_folder_is_not_replaced(guard, dataset, tmp_path):
    sources = [MemberSource("one", FACTORY), MemberSource("two", FACTORY)]
    own, file, empty = tmp_path / "own", tmp_path / "file", tmp_path / "empty"
    own.mkdir()
    empty.mkdir()
    for precious in (own / "thesis.tex", file):
        precious.write_text("years of work")
    for path in (own, file):
        with pytest.raises(
            UsageError, match=r"replaces a bundle, an empty folder or nothing\. Got"
        ):
            write_bundle(guard, dataset, sources, path)
    assert (own / "thesis.tex").read_text() == file.read_text() == "years of work"
    write_bundle(guard, dataset, sources, empty)
    assert (empty / "bundle.toml").exists()


def test_two_members_of_one_name_are_refused(guard, dataset, tmp_path):
    with pytest.raises(UsageError, match=r"a name of its own: .* Got one more than once: rename"):
        write_bundle(guard, dataset, [MemberSource("one", FACTORY)] * 2, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_manifest_that_points_outside_is_refused(written):
    path, _ = written
    manifest, _ = read_manifest(path)
    manifest["files"]["../../etc/passwd"] = "0"
    sign(path, manifest)
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
    sentence = r"No space left on device. What was there before"
    with pytest.raises(DataError, match=sentence) as caught:
        write_bundle(guard, dataset, sources, path)
    assert str(caught.value).startswith(f"{path} cannot be written")
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
