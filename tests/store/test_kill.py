"""kill -9 under load: no acknowledged row is lost, and none is there twice."""

import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from buckler.store.engine import open_store
from buckler.store.tables import reviews

LOAD_S = 1.0


def killed(url, blobs, run, seconds):
    """(request id, row, review id) of all that a process acknowledged before it was killed, and
    how many a second."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.hammer", url, blobs, run], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    timer = threading.Timer(seconds, process.kill)
    timer.start()
    began = time.monotonic()
    lines = [first, *process.stdout]
    spent = time.monotonic() - began
    assert process.wait(10) == -9
    process.stdout.close()
    acknowledged = [tuple(line.decode().split()) for line in lines if line.endswith(b"\n")]
    return acknowledged, len(acknowledged) / spent


def check(url, blobs, acknowledged):
    store = open_store(url, blobs)
    columns = (reviews.c.request_id, reviews.c.row, reviews.c.id, reviews.c.blob)
    with store.read() as connection:
        found = connection.execute(sa.select(*columns)).all()
    by_row = {(request, str(row)): (name, blob) for request, row, name, blob in found}
    assert len(by_row) == len(found), "a row is there twice"
    for request, row, name in acknowledged:
        kept, blob = by_row[request, row]
        assert kept == name
        assert store.blobs.get(blob) == f"{request}/{row}".encode()
    store.close()


def hammered(url, blobs, rounds):
    open_store(url, blobs).close()
    acknowledged = []
    for number in range(rounds):
        some, rate = killed(url, blobs, f"run{number}", LOAD_S)
        assert rate >= 200, f"{rate:.0f} rows/s is no load"
        acknowledged += some
        check(url, blobs, acknowledged)


def test_a_kill_loses_no_acknowledged_row(url, tmp_path):
    hammered(url, str(tmp_path / "blobs"), 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_lose_no_acknowledged_row(url, tmp_path):
    hammered(url, str(tmp_path / "blobs"), 20)
