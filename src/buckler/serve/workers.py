"""Several processes on one socket, and a parent that starts the dead ones anew."""

import multiprocessing
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from buckler.errors import BucklerError

_DEATHS = 5
_WITHIN_S = 60.0
_LAST_S = 60.0

Work = tuple[Callable[..., None], tuple[Any, ...]]


@dataclass(frozen=True)
class _Worker:
    process: BaseProcess
    told: Connection  # "ready", or the sentence that ended it


def supervise(work: Work, count: int, on_ready: Callable[[], object], stop: list[int]) -> None:
    """Run `work` in `count` processes until `stop` holds a signal, then let them finish.

    Each is spawned, so it shares no lock and no thread with its parent, and ends with it.

    Args:
        work: a function and its first arguments; it is also given on_ready and wanted.
        on_ready: called once all are.

    Raises: BucklerError if one cannot start, or they die more than 5 times in a minute.
    """
    workers = [_start(work) for _ in range(count)]
    try:
        for worker in workers:
            _until_ready(worker, stop)
        if not stop:
            on_ready()
        deaths: list[float] = []
        while not stop:
            wait([worker.process.sentinel for worker in workers], timeout=0.1)
            for index, worker in enumerate(workers):
                if worker.process.is_alive() or stop:
                    continue
                deaths = [at for at in deaths if at > time.monotonic() - _WITHIN_S]
                deaths.append(time.monotonic())
                why = _last_words(worker)
                if len(deaths) > _DEATHS:
                    raise BucklerError(
                        f"the workers died {len(deaths)} times within {_WITHIN_S:g} s, the last "
                        f"one since {why}: what they wrote to stderr says more"
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
        function(*given, lambda _: tell.send("ready"), parent.is_alive)
    except BucklerError as error:
        if parent.is_alive():
            tell.send(str(error))
        sys.exit(error.exit_code)


def _until_ready(worker: _Worker, stop: list[int]) -> None:
    while not stop:
        if worker.told.poll(0.1):
            if (said := _last_words(worker)) != "ready":
                raise BucklerError(f"a worker did not start: {said}")
            return


def _last_words(worker: _Worker) -> str:
    """What a worker said last."""
    said = ""
    try:
        while worker.told.poll(0):
            said = worker.told.recv()
    except EOFError:
        worker.process.join(1)
    return said or f"it ended with exit code {worker.process.exitcode}"
