"""Bell: no ring is lost, whenever it comes; and a wait ends without one."""

import gc
import os
import threading
import time

import pytest

from buckler.serve.bell import Bell


def test_a_ring_before_the_wait_counts_and_many_are_one() -> None:
    bell = Bell()
    for _ in range(100_000):  # more than a pipe holds
        bell.ring()
    for _ in range(20):
        bell.wait(0)
    start = time.monotonic()
    bell.wait(0.05)
    assert time.monotonic() - start >= 0.04, "nothing is left of them"


def test_a_ring_ends_the_wait_of_another_thread() -> None:
    bell, woke = Bell(), threading.Event()

    def wait() -> None:
        bell.wait(3600)
        woke.set()

    thread = threading.Thread(target=wait)
    thread.start()
    bell.ring()
    assert woke.wait(30)
    thread.join()


def test_it_leaves_nothing_open() -> None:
    bell = Bell()
    ends = bell._ear, bell._hammer
    del bell
    gc.collect()
    for end in ends:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(end)


def test_two_may_wait_and_no_ring_keeps_one_of_them() -> None:
    bell, woke = Bell(), threading.Semaphore(0)

    def wait() -> None:
        bell.wait(0.2)
        woke.release()

    threads = [threading.Thread(target=wait) for _ in range(2)]
    for thread in threads:
        thread.start()
    bell.ring()
    for thread in threads:
        assert woke.acquire(timeout=30)
        thread.join()
