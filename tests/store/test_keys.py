"""Keys and sessions: shown once, hashed at rest, ended when told."""

import hashlib
import threading

import pytest
from argon2 import PasswordHasher

from buckler.errors import StoreDownError, UsageError
from buckler.ops.access import KeyRing, digest_of, find_key, new_key
from buckler.store import audit, users
from buckler.store.keys import TableKeys, add_key, all_keys, revoke_key, rotate_key
from buckler.store.users import (
    User,
    add_user,
    check_password,
    close_session,
    disable_user,
    find_session,
    open_session,
    set_password,
)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Argon2 with all it should cost takes most of a second a call on a busy machine."""
    monkeypatch.setattr(users, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64))


SIGNING = [b"a secret of the operator"]
PASSWORD = "correct horse battery"  # no real one


def everything(store):
    """All that the database holds, as text."""
    with store.read() as connection:
        names = ("keys", "users", "sessions", "audit")
        return str([connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in names])


def test_a_key_is_shown_once_and_only_its_hash_is_kept(store):
    key, text = add_key(store, "shop", ["infer"], 10.0, "root", expires=99.0, burst=5.0)
    assert text.startswith(key.prefix)
    assert key.digest == digest_of(text) == hashlib.sha256(text.encode()).hexdigest()
    assert all_keys(store) == [key]
    assert text.split("_", 2)[2] not in everything(store)
    ring: KeyRing = TableKeys(store)
    assert ring.find(key.digest) is None
    ring.refresh()
    assert ring.find(key.digest) == find_key(ring, text, 50.0) == key
    assert find_key(ring, text, 99.0) is None
    assert ring.find(digest_of(new_key())) is None
    assert add_key(store, "shop", ["infer"], 10.0, "root")[1] != text


def test_rotation_overlaps_and_revocation_is_at_once(store):
    key, _ = add_key(store, "shop", ["infer", "review"], 0.0, "root", rows_per_s=7.0)
    new, _ = rotate_key(store, key.id, 100.0, "root", overlap_s=50.0)
    by_id = {each.id: each for each in all_keys(store)}
    assert by_id[key.id].expires == 150.0
    assert (new.roles, new.rows_per_s, new.expires) == (key.roles, 7.0, None)
    revoke_key(store, new.id, 120.0, "root")
    revoke_key(store, new.id, 130.0, "root")
    assert {each.id: each.revoked for each in all_keys(store)} == {key.id: False, new.id: True}
    for wrong in (new.id, "nothing"):
        with pytest.raises(UsageError, match="in use can be rotated"):
            rotate_key(store, wrong, 130.0, "root")
    with pytest.raises(UsageError, match="there is no key 'nothing'"):
        revoke_key(store, "nothing", 1.0, "root")
    with store.read() as connection:
        actions = connection.exec_driver_sql("SELECT action FROM audit ORDER BY n").scalars().all()
        assert audit.verify(connection) is None
    assert actions == ["key.add", "key.add", "key.rotate", "key.revoke"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"roles": []}, r"must be some of infer, .* Got none"),
        ({"roles": ["god"]}, "Got god"),
        ({"expires": 5.0}, "must end in the future, 10 is now"),
        ({"rows_per_s": 0.0}, "must be > 0. Got 0 and"),
    ],
)
def test_a_key_that_cannot_be_is_one_sentence(lite, more, said):
    given = {"roles": ["infer"], **more}
    with pytest.raises(UsageError, match=said):
        add_key(lite, "x", given.pop("roles"), 10.0, "root", **given)


def test_the_ring_follows_the_table_and_goes_stale(lite, monkeypatch):
    now = [0.0]
    key, _ = add_key(lite, "x", ["infer"], 1.0, "root")
    ring = TableKeys(lite, refresh_s=0.01, stale_s=60.0, clock=lambda: now[0])
    ring.start()
    revoke_key(lite, key.id, 2.0, "root")
    seen = threading.Event()
    for _ in range(500):
        if ring.find(key.digest).revoked:
            seen.set()
            break
        seen.wait(0.01)
    assert seen.is_set()

    def down(_):
        raise StoreDownError("gone")

    monkeypatch.setattr("buckler.store.keys.all_keys", down)
    seen.wait(0.05)
    now[0] = 59.0
    assert ring.find(key.digest) is not None
    now[0] = 120.0
    assert ring.find(key.digest) is None
    ring.stop()


def test_people_log_in_and_out(store):
    user = add_user(store, "ann", PASSWORD, ["review"], 0.0, "root", senior=True)
    assert user == User("ann", frozenset(["review"]), True)
    assert check_password(store, "ann", PASSWORD) == user
    assert check_password(store, "ann", PASSWORD + " ") is None
    assert check_password(store, "nobody", PASSWORD) is None
    token = open_session(store, user, 100.0, SIGNING, seconds=60.0)
    assert find_session(store, token, 159.0, SIGNING) == user
    assert find_session(store, token, 160.0, SIGNING) is None
    assert find_session(store, token, 101.0, [b"a secret of somebody else"]) is None
    assert find_session(store, token, 101.0, [b"the new secret comes first", *SIGNING]) == user
    session, _, signature = token.partition(".")
    for forged in ("", ".", session, f"{session}x.{signature}", f"{session}.{signature[:-1]}é"):
        assert find_session(store, forged, 101.0, SIGNING) is None
    kept = everything(store)
    assert session not in kept
    assert PASSWORD not in kept
    assert "$argon2id$" in kept
    close_session(store, token)
    assert find_session(store, token, 101.0, SIGNING) is None
    # A new password, or none any more, ends every session.
    token = open_session(store, user, 100.0, SIGNING)
    set_password(store, "ann", "another long password", 102.0, "ann")
    assert find_session(store, token, 103.0, SIGNING) is None
    assert check_password(store, "ann", PASSWORD) is None
    disable_user(store, "ann", 104.0, "root")
    assert check_password(store, "ann", "another long password") is None


def test_users_that_cannot_be_are_one_sentence(lite):
    add_user(lite, "ann", PASSWORD, ["review"], 0.0, "root")
    with pytest.raises(UsageError, match="there is a user 'ann' already"):
        add_user(lite, "ann", PASSWORD, ["review"], 0.0, "root")
    with pytest.raises(UsageError, match="12 characters or more") as caught:
        add_user(lite, "bob", "short", ["review"], 0.0, "root")
    assert "short" not in str(caught.value)
    with pytest.raises(UsageError, match=r"a user's roles must be some of .* Got god"):
        add_user(lite, "bob", PASSWORD, ["god"], 0.0, "root")
    with pytest.raises(UsageError, match="a user needs a name"):
        add_user(lite, " ", PASSWORD, ["review"], 0.0, "root")
    with pytest.raises(UsageError, match="there is no user 'bob'"):
        disable_user(lite, "bob", 0.0, "root")
    with pytest.raises(UsageError, match="secrets of 16 bytes or more"):
        open_session(lite, User("ann", frozenset(["review"]), False), 0.0, [b"short"])
