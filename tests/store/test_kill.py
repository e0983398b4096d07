"""kill -9 under load: no acknowledged row or decision is lost, and none is there twice."""

import subprocess
import sys
import threading
import time

import pytest
import sqlalchemy as sa

from buckler.store import care
from buckler.store.engine import open_store
from buckler.store.tables import decisions, reviews

LOAD_S = 1.2


def killed(url, blobs, run):
    """What a process acknowledged before it was killed: lines of words, and rows a second."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.hammer", url, blobs, run], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    first = process.stdout.readline()
    timer = threading.Timer(LOAD_S, process.kill)
    timer.start()
    began = time.monotonic()
    lines = [first, *process.stdout]
    spent = time.monotonic() - began
    assert process.wait(10) == -9
    process.stdout.close()
    said = [line.decode().split() for line in lines if line.endswith(b"\n")]
    return said, sum(words[0] == "row" for words in said) / spent


def check(url, blobs, said):
    store = open_store(url, blobs)
    columns = (reviews.c.request_id, reviews.c.row, reviews.c.id, reviews.c.blob)
    with store.read() as connection:
        found = connection.execute(sa.select(*columns)).all()
        made = connection.execute(sa.select(decisions.c.review_id, decisions.c.id)).all()
    by_row = {(request, str(row)): (name, blob) for request, row, name, blob in found}
    assert len(by_row) == len(found), "a row is there twice"
    by_review = dict(iter(made))
    assert len(by_review) == len(made), "an item was decided twice"
    for what, *words in said:
        if what == "decided":
            review, decision = words
            assert by_review[review] == decision
            continue
        request, row, name = words
        kept, blob = by_row[request, row]
        assert kept == name
        assert store.blobs.get(blob) == f"{request}/{row}".encode()
    assert care.check(store) == ()
    store.close()


def hammered(url, blobs, rounds):
    open_store(url, blobs).close()
    said = []
    rates = []
    for number in range(rounds):
        some, rate = killed(url, blobs, f"run{number}")
        rates.append(rate)
        said += some
        check(url, blobs, said)
    assert any(words[0] == "decided" for words in said)
    return max(rates)


def test_a_kill_loses_nothing_acknowledged(url, tmp_path):
    hammered(url, str(tmp_path / "blobs"), 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_lose_nothing_acknowledged(url, tmp_path):
    rate = hammered(url, str(tmp_path / "blobs"), 20)
    assert rate >= 200, f"{rate:.0f} rows/s is no load"
