"""Several jobs side by side: small nets gain more from a second job than from a second thread."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from buckler.protocols import Progress

T = TypeVar("T")
_FINE = 100  # steps of the progress a job


def side_by_side(jobs: Sequence[Callable[[], T]], workers: int) -> list[T]:
    """What the jobs return, in their order; at most `workers` run at a time, each on one thread.

    A job's exception is raised once all have ended. The threads are daemons, so that Ctrl-C need
    not wait until the last attack is done.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    finished: queue.SimpleQueue[tuple[int, T | None, BaseException | None]] = queue.SimpleQueue()
    for index in range(len(jobs)):
        todo.put(index)

    def work() -> None:
        while True:
            try:
                index = todo.get_nowait()
            except queue.Empty:
                return
            try:
                finished.put((index, jobs[index](), None))
            except BaseException as error:
                finished.put((index, None, error))

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for the whole process: torch keeps one number
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    try:
        with torch.random.fork_rng(devices=[]):  # jobs may seed the one generator of the process
            for _ in range(max(1, min(workers, len(jobs)))):
                threading.Thread(target=work, daemon=True).start()
            for _ in jobs:
                index, value, error = finished.get()
                if error is not None:
                    errors.append(error)
                results[index] = value  # type: ignore[assignment]
    finally:
        torch.set_num_threads(threads)
    if errors:
        raise errors[0]
    return [results[index] for index in range(len(jobs))]


def shares(progress: Progress | None, jobs: int) -> list[Progress]:
    """A callback for each of several jobs, side by side or in turn, told on as one progress."""
    done = [0.0] * jobs

    def of(index: int) -> Progress:
        def say(count: int, total: int) -> None:
            done[index] = count / total
            if progress is not None:
                progress(round(_FINE * sum(done)), _FINE * jobs)

        return say

    return [of(index) for index in range(jobs)]
