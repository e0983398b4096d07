"""Endpoint: waiting, trying again and counting, on a clock of its own."""

import json
from collections.abc import Callable

import pytest

from buckler.errors import UsageError
from buckler.models.endpoint import Endpoint, Reply, over_http

URL = "http://host/v1/classify"
OK = Reply(200, {}, b'{"fine": true}')


class Clock:
    """Time passes only when someone sleeps."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, [0.0][:0]

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def scripted(*replies: Reply | OSError) -> Callable[..., Reply]:
    left = list(replies)

    def transport(url: str, body: bytes | None, headers: object, timeout_s: float) -> Reply:
        reply = left.pop(0)
        if isinstance(reply, OSError):
            raise reply
        return reply

    return transport


def endpoint(clock: Clock, *replies: Reply | OSError, **settings: object) -> Endpoint:
    return Endpoint(transport=scripted(*replies), clock=clock, sleep=clock.sleep, **settings)  # type: ignore[arg-type]


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    clock = Clock()
    busy = [Reply(429, {"retry-after": "3"}, b""), Reply(503, {}, b""), Reply(503, {}, b"")]
    asked = endpoint(clock, *busy, OK)
    assert asked.post(URL, {}, 5) == {"fine": True}
    assert clock.slept == [3.0, 0.5, 1.0]
    assert (asked.answered, asked.sent) == (5, 20)


def test_a_broken_connection_is_tried_again() -> None:
    clock = Clock()
    assert endpoint(clock, ConnectionResetError("gone"), TimeoutError("slow"), OK).get(URL)
    assert clock.slept == [0.25, 0.5]


def test_it_gives_up_and_waits_no_more_than_a_minute_at_a_time() -> None:
    clock = Clock()
    busy = [Reply(429, {"retry-after": "86400"}, b"")] * 3
    asked = endpoint(clock, *busy, tries=3)
    with pytest.raises(UsageError, match=r"gave no answer in 3 tries \(status 429, busy\)"):
        asked.post(URL, {}, 2)
    assert clock.slept == [60.0, 60.0]
    assert (asked.answered, asked.sent) == (0, 6)


def test_rows_a_second_are_kept() -> None:
    """10 rows a second: requests of 5, 5 and 1 rows begin 0.5 s apart; waiting time counts."""
    clock = Clock()
    asked = endpoint(clock, *[OK] * 5, rows_per_second=10.0)
    for rows in (5, 5, 1):
        asked.post(URL, {}, rows)
    assert clock.slept == pytest.approx([0.5, 0.5])
    clock.now += 10
    asked.post(URL, {}, 5)
    assert len(clock.slept) == 2, "an idle time must not be waited again"
    asked.post(URL, {}, 1)
    assert clock.slept[2:] == pytest.approx([0.5])
    assert (asked.answered, asked.sent) == (17, 17)


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply(400, {}, b'{"error": "rows must be"}'), 'status 400: {"error": "rows must be"}'),
        (Reply(404, {}, b""), "refused the request with status 404"),
        (Reply(200, {}, b"<html>"), "must answer JSON. Got '<html>'"),
        (Reply(200, {}, b"[" * 100_000), "must answer JSON"),
    ],
)
def test_a_refusal_is_told_at_once(reply: Reply, sentence: str) -> None:
    clock = Clock()
    asked = endpoint(clock, reply)
    with pytest.raises(UsageError, match=sentence.replace("{", r"\{")):
        asked.post(URL, {}, 3)
    assert (clock.slept, asked.answered) == ([], 0)


def test_keys_are_sent_and_not_shown() -> None:
    caught: list[tuple[dict[str, str], bytes | None, float]] = []

    def transport(url: str, body: bytes | None, headers: dict[str, str], timeout_s: float) -> Reply:
        caught.append((headers, body, timeout_s))
        return OK

    asked = Endpoint(headers={"Authorization": "Bearer secret"}, timeout_s=7, transport=transport)
    asked.post(URL, {"rows": [[0.5]]}, 1)
    ((headers, body, timeout_s),) = caught
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/json"
    assert (json.loads(body or b""), timeout_s) == ({"rows": [[0.5]]}, 7)
    assert "secret" not in repr(asked)


def test_a_key_with_a_line_break_is_refused_and_not_shown() -> None:
    with pytest.raises(UsageError, match="the header Authorization must be printable") as caught:
        Endpoint(headers={"Authorization": "Bearer secret\n"})
    assert "secret" not in str(caught.value)


def test_a_host_that_cannot_be_looked_up_is_a_connection_that_fails() -> None:
    with pytest.raises(ConnectionError):
        over_http("http://a..b/", None, {}, 1.0)


@pytest.mark.parametrize("wrong", [{"timeout_s": 0}, {"tries": 0}, {"rows_per_second": -1}])
def test_settings_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="an endpoint needs timeout_s > 0, tries >= 1"):
        Endpoint(**wrong)  # type: ignore[arg-type]
