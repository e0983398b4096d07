"""Keys in a file, and the verb that makes them."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from buckler.cli.main import app
from buckler.errors import UsageError
from buckler.ops.access import digest_of, find_key, new_key
from buckler.serve.keys import read_keys

DIGEST = "a" * 64


def make(path: Path, *given: str) -> str:
    done = CliRunner().invoke(app, ["key", "new", str(path), *given], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout.strip()


def test_a_key_is_printed_once_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    one = make(path, "--id", "shop", "--role", "infer", "--rows-per-s", "5", "--days", "1")
    two = make(path, "--id", "ops", "--role", "operate", "--role", "metrics")
    text = path.read_text()
    for made in (one, two):
        assert re.fullmatch(r"bk_\w{8}_\w{43}", made)
        assert made not in text
        assert made[12:] not in text
        assert digest_of(made) in text
    ring = read_keys(path)
    shop, ops = (find_key(ring, made, 0.0) for made in (one, two))
    assert shop is not None
    assert ops is not None
    assert (shop.id, shop.roles, shop.rows_per_s, shop.burst) == ("shop", {"infer"}, 5, 50)
    assert shop.prefix == one[:11]
    assert shop.expires is not None
    assert ops.roles == {"operate", "metrics"}
    assert (ops.expires, ops.revoked) == (None, False)


def test_the_digest_of_a_key_from_standard_input() -> None:
    made = new_key()
    done = CliRunner().invoke(app, ["key", "digest"], input=made + "\n")
    assert done.stdout.strip() == digest_of(made)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--id", "a", "--role", "root"), "Got root"),
        (("--id", "a", "--role", "infer", "--days", "0"), "days must be > 0. Got 0"),
        (("--id", "a", "--role", "infer", "--rows-per-s", "0"), "must be > 0. Got 0 and 0"),
    ],
)
def test_a_key_that_cannot_be(tmp_path: Path, given: tuple[str, ...], sentence: str) -> None:
    done = CliRunner().invoke(app, ["key", "new", str(tmp_path / "k.toml"), *given])
    assert isinstance(done.exception, UsageError)
    assert sentence in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_used_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    make(path, "--id", "shop", "--role", "infer")
    before = path.read_text()
    done = CliRunner().invoke(app, ["key", "new", str(path), "--id", "shop", "--role", "infer"])
    assert "there is a key of the id 'shop'" in str(done.exception)
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"must hold one \[\[key\]\] or more: buckler key new"),
        ("x = ", "is no TOML"),
        ("x = 1", r"may hold \[\[key\]\] tables only"),
        ("key = [1]", r"may hold \[\[key\]\] tables only"),
        ('[[key]]\nid = "a"', r"lacks digest, roles: it needs digest, id, roles and may have"),
        (f'[[key]]\nid="a"\ndigest="{DIGEST}"\nroles=["infer"]\nrole="x"', "has role: it needs"),
        (f'[[key]]\nid="a"\ndigest="{DIGEST}"\nroles="infer"', "roles of a .* must be a list"),
        (f'[[key]]\nid="a"\ndigest="{DIGEST}"\nroles=["root"]', "Got root"),
        (f'[[key]]\nid="a"\ndigest="{DIGEST}"\nroles=["infer"]\nburst="1"', "burst .* a number"),
        (
            f'[[key]]\nid="a"\ndigest="{DIGEST}"\nroles=["infer"]\nexpires=2027-01-01T00:00:00',
            "expires of a .* must be a time with its zone",
        ),
        (f'[[key]]\nid="a"\ndigest="{DIGEST}"\nroles=["infer"]\n' * 2, "each have their own id"),
    ],
)
def test_a_file_of_no_keys(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=sentence):
        read_keys(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_keys(tmp_path / "none")
