"""Quotas: rows a second, each key its own, in bounded memory."""

import math

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from buckler.guard import Guard
from buckler.ops.access import Key, Keys, digest_of, new_key, prefix_of
from buckler.serve import create_app
from buckler.serve.quota import Bucket, Quota
from buckler.serve.refusal import RefusedError

from .tiny import CLASSIFY, LEFT, body, settings

SECRET = new_key()
KEY = Key("a", prefix_of(SECRET), digest_of(SECRET), frozenset({"infer", "metrics"}), 10, 20, None)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    quota = Quota(clock=clock)
    quota.take(KEY, 20)
    with pytest.raises(RefusedError, match=r"may send 10 rows a second: try again in 1 s") as one:
        quota.take(KEY, 1)
    assert (one.value.status, one.value.reason) == (429, "quota")
    assert SECRET not in str(one.value)
    clock.now = 0.5
    quota.take(KEY, 5)
    with pytest.raises(RefusedError):
        quota.check(KEY)
    quota.give_back(KEY, 5)
    quota.check(KEY)
    quota.take(KEY, 5)


def test_more_than_a_burst_waits_for_a_full_bucket_and_pays_for_it() -> None:
    clock = Clock()
    quota = Quota(clock=clock)
    quota.take(KEY, 100)
    with pytest.raises(RefusedError, match="try again in 9 s"):
        quota.take(KEY, 1)  # 80 rows of debt and one more at 10 a second
    clock.now = 8.1
    quota.take(KEY, 1)


def test_keys_pay_apart_and_workers_share() -> None:
    other = Key("b", "", digest_of(new_key()), frozenset({"infer"}), math.inf, math.inf, None)
    clock = Clock()
    quota = Quota(share=0.5, clock=clock)
    quota.take(KEY, 20)
    for _ in range(100):
        quota.take(other, 10**6)
    clock.now = 1.0
    quota.take(KEY, 5)
    with pytest.raises(RefusedError):
        quota.take(KEY, 1)
    quota.take(None, 10**9)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 60)), max_size=40))
def test_never_more_than_burst_and_rate_allow(asked: list[tuple[float, int]]) -> None:
    bucket, now, given_rows = Bucket(10, 20, 20, 0.0), 0.0, 0
    largest = 0
    for pause, rows in asked:
        now += pause
        wait = bucket.take(rows, now)
        if not wait:
            given_rows += rows
            largest = max(largest, rows)
        else:
            now += wait
            assert not bucket.take(rows, now + 1e-6), "what was promised holds"
            given_rows += rows
            largest = max(largest, rows)
        # A request larger than the bucket is a debt of its own size at most.
        assert given_rows <= 20 + 10 * now + max(0, largest - 20) + 1e-3


def test_memory_is_bounded_by_addresses_too() -> None:
    quota = Quota(clock=Clock())
    for number in range(30_000):
        quota.failed_key(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(quota._addresses) == 10_000
    for last in range(10):
        quota.failed_key(f"2001:db8::{last:x}")
    with pytest.raises(RefusedError, match="too many bad keys"):
        quota.failed_key("2001:db8::ffff")


def test_over_http(guard: Guard) -> None:
    headers = {"x-api-key": SECRET}
    app = create_app(guard, settings(), log=False, keys=Keys([KEY]))
    with TestClient(app, headers=headers) as client:
        assert client.post(CLASSIFY, json=body(*[LEFT] * 19)).status_code == 200
        found = client.post(CLASSIFY, json=body(*[LEFT] * 19))
        assert found.status_code == 429
        assert int(found.headers["retry-after"]) in (1, 2)
        assert client.post(CLASSIFY, json=body(LEFT)).status_code == 200
        numbers = client.get("/metrics").text
        assert 'buckler_refusals_total{reason="quota"} 1.0' in numbers
        assert 'buckler_batch_rows_bucket{le="32.0"} 2.0' in numbers


def test_what_the_queue_refuses_is_not_paid_for(guard: Guard) -> None:
    app = create_app(guard, settings(max_rows=3, queue_rows=3), log=False, keys=Keys([KEY]))
    with TestClient(app, headers={"x-api-key": SECRET}) as client:
        app.state.runner.stable.runner._queue.rows = 1  # as if one waited
        for _ in range(30):
            assert client.post(CLASSIFY, json=body(LEFT, LEFT, LEFT)).status_code == 429
        app.state.runner.stable.runner._queue.rows = 0
        assert client.post(CLASSIFY, json=body(LEFT, LEFT, LEFT)).status_code == 200
