"""What an operator may set: read once at start, from arguments, then BUCKLER_… variables."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from buckler.errors import UsageError
from buckler.store.recorder import OnDown

_PREFIX = "BUCKLER_"
HUNG_AFTER_S = 1.5
"""Where nothing else was set or measured: health tells within 2 s."""
Expose = Literal["verdict", "scores"]
Streams = Literal["off", "flag", "suspicious", "throttle"]
_HIDDEN = (
    "secret",
    "store",
    "webhook",
    "webhook_secret",
    "session_secrets",
    "alert_webhook",
    "alert_urls",
)


class Settings(BaseSettings):
    """The gateway's settings. Read them with `Settings.read`, which speaks in one sentence.

    Args:
        host: a loopback address, as long as the gateway has no keys to tell callers apart.
        port: 0 takes any free one.
        max_body_bytes: a larger body is refused while it arrives.
        max_reading_bytes: of all bodies that are being read; what more comes is refused.
        max_rows: inputs a request; more than a batch takes are judged in several, in order.
        max_connections: connections at once; what more comes is closed.
        batch_rows: inputs judged together.
        queue_rows: inputs that may wait; no request has more.
        queue_bytes: bytes of the inputs that may wait.
        deadline_s: seconds from a request's first byte to its answer.
        head_s: seconds a request's head may take.
        hung_after_s: seconds after which a batch is given up and another thread takes over. Not
            given: 1.5, or 20 times what a full batch took at the start.
        heartbeat_s: an idle runner judges a blank input so often.
        abandonments: threads that may hang or die before the process ends with an error.
        drain_delay_s: seconds between "not ready" and the last connection taken, for whoever
            sends requests to look elsewhere.
        workers: processes, each with the bundle in its memory and a queue of its own.
        keys_file: TOML of [[key]], written by `buckler key new`. A key's rows_per_s is shared
            among the workers.
        https: callers come through TLS (a proxy): tell browsers to insist on it.
        digest: of the only bundle that may be served.
        factories: member factories that may run beside Buckler's own, "module:function".
        secret: for the draws of a randomised guard.
        model: the name under which the V2 protocol knows the bundle.
        expose: what a caller sees: "verdict", the answer alone, or "scores", also the numbers
            behind it, which show an attacker the way.
        store: sqlite:///FOLDER/store.db or postgresql://USER@HOST/DATABASE; none: nothing is kept,
            no row has a review id. With one, callers need keys.
        inputs: a folder or s3:// URL for the inputs, if not beside the store.
        on_store_down: "fail_closed", what cannot be kept is not answered, or "degrade", it is
            answered without a review id.
        accepted_sample: share of ACCEPTED rows, drawn at random, that people review all the same.
        webhook: a URL that is told what happens in the review queue.
        webhook_secret: signs what is sent there.
        streams: look for runs of near-equal images: "flag" lists clients that send them;
            "suspicious" accepts none of their next inputs; "throttle" answers few of them.
        streams_hold_s: seconds that a client stays under suspicion.
        session_secrets: sign people's sessions on the pages, with commas between; the first one
            signs, all are accepted. None: one that is kept in the store.
        false_alarm_days, rows_per_day: the alarms of a bundle may page for nothing once in so many
            days, at so many rows a day on all gateways together.
        alert_webhook: a URL that is told of alerts in the shape of Alertmanager.
        alert_urls: where else alerts go, as apprise knows it (slack://, mailto://), with spaces
            between.
        runbooks: URL of the guide whose sections alerts link to.
        webhook_private: a webhook may be on this machine or a private network, without TLS, too.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    max_body_bytes: int = Field(default=4 * 1024 * 1024, ge=1)
    max_reading_bytes: int = Field(default=64 * 1024 * 1024, ge=1)
    max_rows: int = Field(default=256, ge=1)
    max_connections: int = Field(default=1024, ge=1)
    batch_rows: int = Field(default=256, ge=1)
    queue_rows: int = Field(default=4096, ge=1)
    queue_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    deadline_s: float = Field(default=10.0, gt=0, le=3600)
    head_s: float = Field(default=5.0, gt=0, le=3600)
    hung_after_s: float | None = Field(default=None, gt=0, le=3600)
    heartbeat_s: float = Field(default=1.0, gt=0, le=3600)
    abandonments: int = Field(default=3, ge=0)
    drain_delay_s: float = Field(default=0.0, ge=0, le=3600)
    workers: int = Field(default=1, ge=1, le=256)
    keys_file: Path | None = None
    https: bool = False
    digest: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")
    factories: Annotated[tuple[str, ...], NoDecode] = ()
    secret: SecretStr = SecretStr("")
    model: str = Field(default="buckler", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    expose: Expose = "verdict"
    store: SecretStr | None = None
    inputs: str | None = None
    on_store_down: OnDown = "fail_closed"
    accepted_sample: float = Field(default=0.001, ge=0, le=1)
    webhook: SecretStr | None = None
    webhook_secret: SecretStr = SecretStr("")
    webhook_private: bool = False
    false_alarm_days: float = Field(default=90.0, gt=0, le=3650)
    rows_per_day: float = Field(default=1e6, ge=1, le=1e8)
    alert_webhook: SecretStr | None = None
    alert_urls: SecretStr = SecretStr("")
    runbooks: str = "docs/guide/monitoring.md"
    session_secrets: SecretStr = SecretStr("")
    streams: Streams = "off"
    streams_hold_s: float = Field(default=3600.0, gt=0, le=30 * 86_400)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Settings from arguments, then environment; None is not given: the variable counts.

        Raises: UsageError, in one sentence and without the secret.
        """
        try:
            return cls(**{name: value for name, value in given.items() if value is not None})
        except ValidationError as error:
            raise UsageError(_sentence(error)) from None

    @field_validator("factories", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """In a variable, names stand between commas."""
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _a_request_fits(self) -> Self:
        """What may be sent must also be able to wait."""
        for small, large in (("max_rows", "queue_rows"), ("max_body_bytes", "max_reading_bytes")):
            least, got = getattr(self, small), getattr(self, large)
            if least > got:
                raise ValueError(f"{large} must be {small} ({least}) or more. Got {got}")
        return self

    @model_validator(mode="after")
    def _a_store_comes_first(self) -> Self:
        """What would have no effect was meant to have one."""
        for name in ("inputs", "webhook", "alert_webhook", "alert_urls"):
            given = getattr(self, name)
            if given is not None and given != SecretStr("") and self.store is None:
                raise ValueError(f"{name} needs a store: set BUCKLER_STORE")
        return self

    @property
    def signing(self) -> tuple[bytes, ...]:
        given = self.session_secrets.get_secret_value().split(",")
        return tuple(each.strip().encode() for each in given if each.strip())

    @property
    def keyed(self) -> bool:
        """Callers must show a key."""
        return self.keys_file is not None or self.store is not None

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_variables(cls, given: dict[str, Any]) -> dict[str, Any]:
        """A misspelt BUCKLER_DIGEST must not serve any bundle that comes along."""
        known = {_PREFIX + name.upper() for name in cls.model_fields}
        unknown = sorted(
            name for name in os.environ if name.startswith(_PREFIX) and name not in known
        )
        if unknown:
            raise ValueError(_unknown(unknown))
        return given


def _unknown(names: list[str]) -> str:
    allowed = ", ".join(Settings.model_fields)
    return f"no setting is called {', '.join(names)}: the settings are {allowed}"


def _sentence(error: ValidationError) -> str:
    first = error.errors()[0]
    if first["type"] == "extra_forbidden":
        return _unknown([str(first["loc"][0])])
    if not first["loc"]:
        return str(first["ctx"]["error"])
    name = str(first["loc"][0])
    # The message ends here for a secret: what was given must not be repeated.
    got = "" if name in _HIDDEN else f". Got {first['input']!r}"
    return f"the setting {name} ({_PREFIX}{name.upper()}) cannot be used: {first['msg']}{got}"
