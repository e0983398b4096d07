"""Settings: read once, unknown ones refused, the secret never shown."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from buckler.errors import UsageError
from buckler.serve import Settings, create_app

from .tiny import tiny_guard


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


def test_the_guide_names_every_setting_and_its_default() -> None:
    guide = (Path(__file__).parents[2] / "docs/guide/serving.md").read_text(encoding="utf-8")
    table = guide.partition("## Settings")[2].partition("## Health")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", table, re.MULTILINE))
    assert set(rows) == set(Settings.model_fields)
    for name, shown in rows.items():
        default = Settings.model_fields[name].default
        if type(default) in (int, float) and "MiB" in shown:
            assert default == int(shown.split()[0]) * 1024 * 1024
        elif type(default) in (int, float):
            assert float(shown) == default


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"max_rows": 9, "queue_rows": 8}, r"^queue_rows must be max_rows \(9\) or more\. Got 8$"),
        ({"max_body_bytes": 9, "max_reading_bytes": 8}, r"^max_reading_bytes must be max_body_by"),
    ],
)
def test_what_may_be_sent_must_be_able_to_wait(given: dict[str, int], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        Settings.read(**given)


def test_a_queue_too_small_for_the_bundles_inputs() -> None:
    with pytest.raises(UsageError, match=r"queue_bytes must hold .* 256 bytes each\. Got 1000"):
        create_app(tiny_guard(), Settings.read(queue_bytes=1000))
