"""Several processes on one socket, and a parent that starts the dead ones anew."""

import math
import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from buckler.errors import BucklerError

_CRASHES = 5
_LONG_S = 60.0
_LAST_S = 60.0
_READY = "ready"

Work = tuple[Callable[..., None], tuple[Any, ...]]


@dataclass
class _Worker:
    process: BaseProcess
    told: Connection  # READY, or the sentence that ended it; and when
    ready_at: float = math.inf


def supervise(work: Work, count: int, on_ready: Callable[[], object], stop: list[int]) -> None:
    """Run `work` in `count` processes until `stop` holds a signal, then let them finish.

    Each is spawned, so it shares no lock and no thread with its parent, and ends with it.

    Args:
        work: a function and its first arguments; it is also given on_ready and wanted.
        on_ready: called once all are.

    Raises: BucklerError if one cannot start, or 6 in a row die within a minute of their start.
    """
    workers = [_start(work) for _ in range(count)]
    try:
        for worker in workers:
            _until_ready(worker, stop)
        if not stop:
            on_ready()
        crashes = 0
        while not stop:
            wait([worker.process.sentinel for worker in workers], timeout=0.1)
            for index, worker in enumerate(workers):
                if worker.process.is_alive() or stop:
                    continue
                why, lived = _last_words(worker)
                # However long a start takes: who dies soon after it dies of something that lasts.
                crashes = crashes + 1 if lived < _LONG_S else 0
                if crashes > _CRASHES:
                    raise BucklerError(
                        f"the workers died {crashes} times, each within {_LONG_S:g} s of its "
                        f"start, the last one since {why}: what they wrote to stderr says more"
                    )
                workers[index] = _start(work)
    finally:
        for worker in workers:
            worker.process.terminate()
        end = time.monotonic() + _LAST_S
        for worker in workers:
            worker.process.join(max(0.0, end - time.monotonic()))
            worker.process.kill()


def _start(work: Work) -> _Worker:
    context = multiprocessing.get_context("spawn")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(*work, tell), name="buckler-worker")
    process.start()
    tell.close()
    return _Worker(process, told)


def _run(function: Callable[..., None], given: tuple[Any, ...], tell: Connection) -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    try:
        function(*given, lambda _: tell.send((_READY, time.monotonic())), parent.is_alive)
    except BucklerError as error:
        if parent.is_alive():
            tell.send((str(error), time.monotonic()))
        sys.exit(error.exit_code)


def _until_ready(worker: _Worker, stop: list[int]) -> None:
    while not stop:
        if worker.told.poll(0.1):
            try:
                said, worker.ready_at = worker.told.recv()
            except EOFError:
                said = _exit(worker)
            if said != _READY:
                raise BucklerError(f"a worker did not start: {said}")
            return


def _last_words(worker: _Worker) -> tuple[str, float]:
    """Why a worker died, and the seconds it had been ready: < 0 if it never was."""
    why = _exit(worker)
    try:
        while worker.told.poll(0):
            said, at = worker.told.recv()
            if said == _READY:
                worker.ready_at = at
            else:
                why = said
    except EOFError:
        pass
    return why, time.monotonic() - worker.ready_at


def _exit(worker: _Worker) -> str:
    worker.process.join(1)
    return f"it ended with exit code {worker.process.exitcode}"
