"""Keys: enough of chance in each, and nothing kept that would let anyone in."""

import hashlib
from dataclasses import replace

import pytest

from buckler.errors import UsageError
from buckler.ops.access import ROLES, Key, Keys, digest_of, find_key, new_key, prefix_of

KEY = new_key()
KEPT = Key("shop", prefix_of(KEY), digest_of(KEY), frozenset({"infer"}), 10.0, 20.0, 1000.0)


def test_a_key_holds_256_random_bits_behind_a_prefix() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    assert len({prefix_of(key) for key in made}) == 100
    for key in made:
        head, shown, secret = key.split("_")
        assert (head, len(shown), len(secret)) == ("bk", 8, 43)
        assert 62**43 > 2**256
        assert key.startswith(prefix_of(key))
        assert digest_of(key) == hashlib.sha256(key.encode()).hexdigest()
    # In 100 keys of 43 letters each of the 62 is missing with probability under 1e-28.
    assert len({letter for key in made for letter in key.split("_")[2]}) == 62


def test_only_the_very_key_is_found() -> None:
    ring = Keys([KEPT])
    assert find_key(ring, KEY, 0.0) is KEPT
    for wrong in ("", KEY[:-1], KEY + "x", KEY.swapcase(), new_key(), KEPT.digest, KEY + "\n"):
        assert find_key(ring, wrong, 0.0) is None


def test_an_expired_or_revoked_key_opens_nothing() -> None:
    ring = Keys([KEPT])
    assert find_key(ring, KEY, 999.9) is KEPT
    assert find_key(ring, KEY, 1000.0) is None
    assert find_key(Keys([replace(KEPT, revoked=True)]), KEY, 0.0) is None
    assert find_key(Keys([replace(KEPT, expires=None)]), KEY, 1e12) is not None


def test_a_ring_that_finds_too_much_is_not_believed() -> None:
    class Careless:
        def find(self, digest: str) -> Key:
            return KEPT

    assert find_key(Careless(), KEY, 0.0) is KEPT
    assert find_key(Careless(), new_key(), 0.0) is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"id": ""}, "a key's id must be 1 to 64 printable characters. Got ''"),
        ({"id": "a\nb"}, "printable"),
        ({"digest": "abc"}, "the digest of the key 'shop' must be a sha256 in hex"),
        ({"roles": frozenset()}, "must be some of infer, review, operate, admin, metrics. Got non"),
        ({"roles": frozenset({"root"})}, "Got root"),
        ({"rows_per_s": 0.0}, "rows_per_s and burst of the key 'shop' must be > 0. Got 0 and 20"),
        ({"burst": float("nan")}, "Got 10 and nan"),
    ],
)
def test_a_key_that_is_none(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(UsageError) as caught:
        replace(KEPT, **change)  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_what_is_no_key_is_not_repeated() -> None:
    with pytest.raises(UsageError, match="a key must be bk_, 8 letters") as caught:
        digest_of("hunter2")
    assert "hunter2" not in str(caught.value)


def test_the_roles_are_five() -> None:
    assert ROLES == ("infer", "review", "operate", "admin", "metrics")
