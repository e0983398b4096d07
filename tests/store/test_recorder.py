"""SUSPICIOUS rows are on the disk before the answer; the rest follows; a store that is down is
told, and used again once it is back."""

import asyncio
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from buckler.errors import DataError, StoreDownError
from buckler.ops.review import Policy
from buckler.store.engine import durability, open_store
from buckler.store.recorder import Event, Recorder
from buckler.store.tables import events, reviews
from tests.store.made import item

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def rows(store, table=reviews):
    with store.read() as connection:
        return connection.execute(sa.select(table)).mappings().all()


@pytest.fixture
def recorder(store):
    made = Recorder(store, clock=lambda: 1000.0)
    made.start()
    yield made
    made.stop()


def wait_for(true, seconds=10.0):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


async def test_a_row_and_its_input_are_committed_durably_before_the_answer(store, recorder):
    order: list[str] = []

    def committed(connection):
        order.append(f"commit {durability(connection)}")

    keep = store.blobs.keep

    def kept(content):
        found = keep(content)
        order.append("input")
        return found

    sa.event.listen(store.durable, "commit", committed)
    recorder._store.blobs.keep = kept
    ids = await recorder.suspicious([item(1), item(2)])
    order.append("answer")
    setting = "FULL" if store.is_sqlite else "on"
    assert order == ["input", "input", f"commit {setting}", "answer"]
    # Another process would see it now.
    other = open_store(store.durable.url.render_as_string(False), store.blobs.url, upgrade=False)
    found = {row["id"]: row for row in rows(other)}
    assert set(ids) == set(found)
    assert other.blobs.get(found[ids[0]]["blob"]) == b"input 1"
    assert found[ids[0]]["created"] == 1000.0
    assert found[ids[0]]["verdict"]["status"] == "SUSPICIOUS"
    other.close()


async def test_a_row_that_comes_again_is_the_same_row(store, recorder):
    first = await recorder.suspicious([item(1), item(1, row=1)])
    again = await recorder.suspicious([item(1), item(1, row=1)])
    both = await asyncio.gather(*(recorder.suspicious([item(7)]) for _ in range(8)))
    assert first == again
    assert len(set(first)) == 2
    assert len(set(both)) == 1
    assert len(rows(store)) == 3


async def test_nobody_hides_behind_a_request_id_that_was_used(store, recorder):
    (mine,) = await recorder.suspicious([item(1)])
    (others,) = await recorder.suspicious([item(1, key_id="other")])
    (changed,) = await recorder.suspicious([item(1, content=b"another input")])
    assert len({mine, others, changed}) == 3
    assert len(rows(store)) == 3


async def test_many_requests_share_a_commit(store, recorder):
    answers = await asyncio.gather(*(recorder.suspicious([item(n)]) for n in range(200)))
    counts = recorder.counts()
    assert len({name for ids in answers for name in ids}) == counts.committed == 200
    assert counts.groups < 100


async def test_no_rows_need_no_store(store):
    assert await Recorder(store).suspicious([]) == ()


async def test_one_bad_row_spoils_no_other(store, recorder, monkeypatch):
    with pytest.raises(DataError, match="must be plain JSON"):
        await recorder.suspicious([item(1, verdict={"confidence": float("nan")})])
    with pytest.raises(DataError, match="no NUL"):
        await recorder.suspicious([item(1, request_id="a\0b")])
    with pytest.raises(DataError, match="finite risk"):
        await recorder.suspicious([item(1, risk=float("nan"))])
    found = await asyncio.gather(
        recorder.suspicious([item(1)]),
        recorder.suspicious([item(2, row=2**80)]),  # no database holds this number
        recorder.suspicious([item(3)]),
        return_exceptions=True,
    )
    assert [isinstance(each, Exception) for each in found] == [False, True, False]
    assert recorder.up
    assert len(rows(store)) == 2


async def test_the_rest_follows_off_the_path_and_is_relaxed(store, recorder):
    settings: list[str] = []
    sa.event.listen(store.relaxed, "commit", lambda c: settings.append(durability(c)))
    for number in range(600):
        recorder.record(Event("request", request_id=str(number), accepted=3, suspicious=1))
    recorder.record(item(1, sampled=True))
    wait_for(lambda: recorder.counts().kept == 601)
    assert set(settings) == {"NORMAL" if store.is_sqlite else "off"}
    assert len(settings) < 60
    kept = rows(store, events)
    assert [row["request_id"] for row in kept] == [str(number) for number in range(600)]
    assert kept[0]["at"] == 1000.0
    assert [row["origin"] for row in rows(store)] == ["sample"]


async def test_what_is_too_much_is_dropped_and_counted(lite):
    recorder = Recorder(lite, max_rows=10)
    recorder.record(Event("request"))
    assert recorder.counts().dropped == 1  # not started
    recorder.start()
    with lite.write():  # the disk is busy elsewhere
        for _ in range(100):
            recorder.record(Event("request"))
        with pytest.raises(StoreDownError, match="10 rows wait for the store already"):
            await asyncio.gather(*(recorder.suspicious([item(n)] * 6) for n in range(9)))
    wait_for(lambda: len(rows(lite, events)) + recorder.counts().dropped == 101)
    assert recorder.counts().dropped >= 80
    recorder.stop()


async def test_large_inputs_off_the_path_are_bounded_in_bytes(lite):
    recorder = Recorder(lite, max_bytes=100)
    recorder.start()
    with lite.write():
        for number in range(5):
            recorder.record(item(number, content=bytes([number]) * 40, sampled=True))
            recorder.record(Event("request"))
        assert recorder.counts().dropped >= 1
    wait_for(lambda: recorder.counts().kept + recorder.counts().dropped == 10)
    assert len(rows(lite, events)) == 5, "what has no input is no matter of bytes"
    assert len(rows(lite)) <= 4  # two that were in hand, two that waited
    recorder.stop()


async def test_what_waits_is_kept_at_the_end(lite):
    recorder = Recorder(lite)
    recorder.start()
    waiting = [asyncio.ensure_future(recorder.suspicious([item(n)])) for n in range(20)]
    await asyncio.sleep(0)
    for _ in range(300):
        recorder.record(Event("request"))
    await asyncio.to_thread(recorder.stop)
    assert len({name for (name,) in await asyncio.gather(*waiting)}) == 20
    assert len(rows(lite, events)) == 300
    assert not recorder.up
    with pytest.raises(StoreDownError, match="starting or stopping"):
        await recorder.suspicious([item(99)])


def broken(monkeypatch, blobs):
    def full(_):
        raise StoreDownError(f"an input cannot be kept at {blobs.url}: No space left on device")

    monkeypatch.setattr(blobs, "keep", full)


async def test_a_full_disk_fails_closed_and_recovers(lite, monkeypatch):
    recorder = Recorder(lite)
    recorder.start()
    with monkeypatch.context() as patched:
        broken(patched, lite.blobs)
        with pytest.raises(StoreDownError, match="No space left on device"):
            await recorder.suspicious([item(1), item(2)])
        assert not recorder.up
        assert recorder.counts().refused == 2
        assert rows(lite) == []
    wait_for(lambda: recorder.up)  # nobody sent anything
    assert len(lite.blobs.digests()) == 0
    assert len(await recorder.suspicious([item(1)])) == 1
    assert recorder.up
    recorder.stop()


async def test_a_database_that_is_full_fails_closed_and_recovers(lite):
    recorder = Recorder(lite)
    recorder.start()
    await recorder.suspicious([item(1)])
    pages = []

    def limit(connection):
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages[0]}")

    with lite.read() as connection:
        pages.append(connection.exec_driver_sql("PRAGMA page_count").scalar())
    sa.event.listen(lite.durable, "begin", limit)
    many = [item(number, request_id=f"{number}" * 900) for number in range(100)]
    with pytest.raises(StoreDownError, match="database or disk is full"):
        await recorder.suspicious(many)
    pages[0] = 1 << 30
    assert len(await recorder.suspicious([item(2)])) == 1
    assert recorder.up
    recorder.stop()


async def test_a_store_that_hangs_is_down_in_time(lite):
    recorder = Recorder(lite, on_down="degrade", wait_s=0.2)
    recorder.start()
    with lite.write():
        began = time.monotonic()
        assert await recorder.suspicious([item(1), item(2)]) == ("", "")
        assert time.monotonic() - began < 2
        wait_for(lambda: not recorder.up)
        began = time.monotonic()
        assert await recorder.suspicious([item(3)]) == ("",)
        assert time.monotonic() - began < 0.15  # it need not find out again
        assert recorder.counts().degraded == 3
    wait_for(lambda: recorder.up)
    assert await recorder.suspicious([item(4)]) != ("",)
    recorder.stop()


@pytest.mark.parametrize("on_down", ["fail_closed", "degrade"])
async def test_a_database_that_goes_and_comes_back(postgres, tmp_path, on_down):
    store = open_store(postgres.new_url(), str(tmp_path / "blobs"))
    recorder = Recorder(store, Policy(), on_down=on_down)
    recorder.start()
    (first,) = await recorder.suspicious([item(1)])
    postgres.stop()
    try:
        if on_down == "degrade":
            assert await recorder.suspicious([item(2)]) == ("",)
        else:
            with pytest.raises(StoreDownError, match="the store cannot be used now"):
                await recorder.suspicious([item(2)])
        recorder.record(Event("request"))
        assert not recorder.up
    finally:
        postgres.start()
    wait_for(lambda: recorder.up)  # nobody sent anything
    (third,) = await recorder.suspicious([item(3)])
    wait_for(lambda: recorder.counts().kept == 1 and recorder.up)
    assert {row["id"] for row in rows(store)} == {first, third}
    assert len(rows(store, events)) == 1
    recorder.stop()
    store.close()


async def test_an_input_erased_meanwhile_is_kept_again(lite, monkeypatch):
    recorder = Recorder(lite)
    recorder.start()
    (name,) = await recorder.suspicious([item(1, content=b"shared")])
    keep = lite.blobs.keep

    def kept(content):
        found = keep(content)
        lite.blobs.drop(found[0])  # between the look and the commit
        patched.undo()
        return found

    patched = monkeypatch
    patched.setattr(lite.blobs, "keep", kept)
    await recorder.suspicious([item(2, content=b"shared")])
    (blob,) = {row["blob"] for row in rows(lite)}
    assert Path(lite.blobs.path(blob)).read_bytes() == b"shared"
    assert name
    recorder.stop()
