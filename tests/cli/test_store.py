"""buckler store: an operator at a terminal."""

import io
import sys

import pytest

from buckler.ops.access import find_key
from buckler.store.engine import open_store
from buckler.store.keys import TableKeys
from buckler.store.users import check_password
from tests.store.made import add, item


@pytest.fixture
def url(tmp_path, run):
    found = f"sqlite:///{tmp_path}/store.db"
    assert run("store", "init", "--store", found)[0] == 0
    return found


def test_keys_are_made_rotated_and_revoked(run, url):
    def live(text):
        store = open_store(url)
        ring = TableKeys(store)
        ring.refresh()
        store.close()
        return find_key(ring, text, 2e9)

    code, text, err = run("store", "key", "shop", "--role", "infer", "--store", url)
    assert code == 0
    key = live(text)
    assert key.id in err
    assert text not in err
    _, second, _ = run("store", "key", key.id, "--rotate", "--store", url)
    assert live(text) is None  # it ended a day after
    assert live(second).roles == {"infer"}
    assert run("store", "key", live(second).id, "--revoke", "--store", url)[0] == 0
    assert live(second) is None
    assert run("store", "key", "shop", "--role", "god", "--store", url)[0] == 2


def test_people_are_added(run, url, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a long enough one\n"))
    assert run("store", "user", "ann", "--senior", "--store", url)[0] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO("another long one\n"))
    assert run("store", "user", "ann", "--password", "--store", url)[0] == 0
    store = open_store(url)
    assert check_password(store, "ann", "another long one").senior
    assert check_password(store, "ann", "a long enough one") is None
    store.close()


def test_copies_checks_and_erasure(run, url, tmp_path):
    store = open_store(url)
    names = add(store, item(0), item(1), item(2, key_id="other"))
    assert run("store", "backup", tmp_path / "copy", "--store", url)[0] == 0
    code, out, _ = run("store", "erase", "--client", "key", "--store", url)
    assert (code, "erased 2 rows" in out) == (0, True)
    assert run("store", "erase", "--review", names[2], "--store", url)[0] == 0
    assert run("store", "erase", "--store", url)[0] == 2
    code, out, _ = run("store", "retain", "--store", url)
    assert (code, "removed 0 events, 0 inputs, 0 reviews" in out) == (0, True)
    assert run("store", "check", "--store", url)[0] == 0
    other = f"sqlite:///{tmp_path}/other/store.db"
    assert run("store", "restore", tmp_path / "copy", "--store", other)[0] == 0
    back = open_store(other)
    back.blobs.drop(sorted(back.blobs.digests())[0])
    code, out, _ = run("store", "check", "--store", other)
    assert (code, "is missing from" in out) == (3, True)
    back.close()
    store.close()


def test_down_only_when_told_twice(run, url):
    code, _, err = run("store", "downgrade", "base", "--store", url)
    assert (code, "then say --yes" in err) == (2, True)
    assert run("store", "downgrade", "base", "--yes", "--store", url)[0] == 0
    code, _, err = run("store", "check", "--store", url)
    assert (code, "must be of version" in err) == (3, True)
    assert run("store", "init", "--store", url)[0] == 0
    assert run("store", "check", "--store", url)[0] == 0
