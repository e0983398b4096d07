"""Settings: read once, unknown ones refused, the secret never shown."""

import pytest
from pydantic import ValidationError

from buckler.errors import UsageError
from buckler.serve import Settings


def test_defaults_answer_this_machine_only() -> None:
    found = Settings.read()
    assert (found.host, found.port, found.max_rows, found.queue_rows) == (
        "127.0.0.1",
        8080,
        256,
        4096,
    )
    assert found.max_body_bytes == 4 * 1024 * 1024
    assert found.deadline_s == 10
    assert found.digest is None
    assert found.factories == ()


def test_variables_count_where_no_argument_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKLER_PORT", "9000")
    monkeypatch.setenv("BUCKLER_DIGEST", "a" * 64)
    monkeypatch.setenv("BUCKLER_FACTORIES", "mine:net,mine:other")
    found = Settings.read(port=9001, digest=None)
    assert found.port == 9001
    assert found.digest == "a" * 64
    assert found.factories == ("mine:net", "mine:other")


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(UsageError, match="no setting is called prot: the settings are host, port"):
        Settings.read(prot=1)


def test_a_misspelt_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKLER_DIGETS", "a" * 64)
    with pytest.raises(UsageError, match="no setting is called BUCKLER_DIGETS"):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", 65536),
        ("port", "http"),
        ("max_rows", 0),
        ("queue_rows", 0),
        ("max_body_bytes", 0),
        ("deadline_s", 0),
        ("deadline_s", float("nan")),
        ("digest", "abc"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_given(name: str, value: object) -> None:
    with pytest.raises(UsageError, match=rf"^the setting {name} .*Got {value!r}$"):
        Settings.read(**{name: value})


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings.read().port = 1  # type: ignore[misc]


def test_the_secret_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUCKLER_SECRET", "hush")
    found = Settings.read()
    assert found.secret.get_secret_value() == "hush"
    assert "hush" not in f"{found!r} {found} {found.model_dump()} {found.model_dump_json()}"
    monkeypatch.setenv("BUCKLER_PORT", "x")
    with pytest.raises(UsageError) as caught:
        Settings.read()
    assert "hush" not in str(caught.value)
    with pytest.raises(UsageError) as caught:
        Settings.read(secret=["hush"], port=1)
    assert "hush" not in str(caught.value)
