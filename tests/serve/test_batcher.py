"""Batcher: bounded, first come first served, and no caller pays for another's mistake."""

import asyncio
import time
from concurrent.futures import Future

import pytest
import torch
from torch import Tensor

from buckler.serve.batcher import Batcher
from buckler.serve.judged import Judged
from buckler.serve.refusal import RefusedError

from .tiny import DIES, Held, accept, wait_for


def lit(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def sure(answer: Future[Judged]) -> list[float]:
    return [round(verdict.confidence, 4) for verdict in answer.result(30).verdicts]


def test_what_waits_is_judged_in_one_go_and_each_gets_its_own() -> None:
    held = Held()
    batcher = Batcher(held, max_rows=4, max_waiting=8)
    batcher.start()
    first = batcher.submit(lit(0.1))
    assert held.entered.wait(30)
    rest = [batcher.submit(x) for x in (lit(0.2, 0.3), lit(0.4), lit(0.5, 0.6))]
    assert batcher.rows_waiting() == 5
    held.go.set()
    assert [sure(answer) for answer in (first, *rest)] == [[0.1], [0.2, 0.3], [0.4], [0.5, 0.6]]
    assert held.sizes == [1, 3, 2], "up to 4 rows a batch, no request cut in two"
    batcher.stop()


def test_a_full_queue_refuses_the_next() -> None:
    held = Held()
    batcher = Batcher(held, max_rows=4, max_waiting=2)
    batcher.start()
    batcher.submit(lit(0.1))
    assert held.entered.wait(30)
    waiting = [batcher.submit(lit(0.2)), batcher.submit(lit(0.3))]
    with pytest.raises(RefusedError, match="busy with 2 requests") as caught:
        batcher.submit(lit(0.4))
    assert (caught.value.status, caught.value.headers) == (429, {"retry-after": "1"})
    assert waiting[0].cancel(), "a caller that gave up frees its place"
    waiting.append(batcher.submit(lit(0.5)))
    held.go.set()
    assert [sure(answer) for answer in waiting[1:]] == [[0.3], [0.5]]
    assert held.sizes == [1, 2], "who gave up is not judged"
    batcher.stop()


def test_a_late_answer_is_a_refusal() -> None:
    held = Held()
    batcher = Batcher(held, max_rows=4, max_waiting=2)
    batcher.start()

    async def ask() -> None:
        await batcher.answer(lit(0.1), asyncio.get_running_loop().time() + 0.02)

    with pytest.raises(RefusedError, match="did not answer in time") as caught:
        asyncio.run(ask())
    assert caught.value.status == 504
    held.go.set()
    assert sure(batcher.submit(lit(0.2))) == [0.2]
    batcher.stop()


def test_a_judge_that_fails_fails_its_batch_only() -> None:
    def moody(x: Tensor) -> Judged:
        if float(x.max()) > 0.5:
            raise RuntimeError("too bright")
        return accept(x)

    batcher = Batcher(moody, max_rows=4, max_waiting=2)
    batcher.start()
    with pytest.raises(RefusedError, match="nothing was accepted") as caught:
        batcher.submit(lit(0.9)).result(30)
    assert caught.value.status == 500
    assert str(caught.value.__cause__) == "too bright"
    assert "bright" not in str(caught.value)
    assert sure(batcher.submit(lit(0.2))) == [0.2]
    batcher.stop()


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (lambda x: accept(x[1:]), "0 verdicts for 1 rows"),
        (lambda x: accept(x * float("nan")), "no number"),
    ],
)
def test_a_guard_that_loses_rows_or_numbers_is_not_believed(judge: object, why: str) -> None:
    batcher = Batcher(judge, max_rows=4, max_waiting=2)  # type: ignore[arg-type]
    batcher.start()
    with pytest.raises(RefusedError) as caught:
        batcher.submit(lit(0.2)).result(30)
    assert caught.value.status == 500
    assert why in str(caught.value.__cause__)
    batcher.stop()


def test_stopping_drains_the_queue() -> None:
    def slow(x: Tensor) -> Judged:
        time.sleep(0.01)
        return accept(x)

    batcher = Batcher(slow, max_rows=1, max_waiting=4)
    batcher.start()
    answers = [batcher.submit(lit(value)) for value in (0.1, 0.2, 0.3)]
    batcher.stop(timeout_s=30)
    assert [sure(answer) for answer in answers] == [[0.1], [0.2], [0.3]]
    assert not batcher.alive


def test_what_a_stuck_judge_leaves_is_refused() -> None:
    held = Held()
    batcher = Batcher(held, max_rows=1, max_waiting=4)
    batcher.start()
    running = batcher.submit(lit(0.1))
    assert held.entered.wait(30)
    left = batcher.submit(lit(0.2))
    batcher.stop(timeout_s=0)
    with pytest.raises(RefusedError, match="does not judge now"):
        left.result(30)
    with pytest.raises(RefusedError, match="does not judge now"):
        batcher.submit(lit(0.3))
    held.go.set()
    assert sure(running) == [0.1]
    wait_for(lambda: not batcher.alive)


def test_draining_is_not_ready_and_answers_still() -> None:
    batcher = Batcher(accept, max_rows=4, max_waiting=2)
    assert not batcher.ready
    batcher.start()
    assert batcher.ready
    batcher.drain()
    assert not batcher.ready
    assert sure(batcher.submit(lit(0.2))) == [0.2]
    batcher.stop()


@pytest.mark.filterwarnings(DIES)
def test_a_thread_that_dies_refuses_all_who_wait() -> None:
    held = Held()

    def dying(x: Tensor) -> Judged:
        held(x)
        raise SystemExit

    batcher = Batcher(dying, max_rows=1, max_waiting=4)
    batcher.start()
    running, left = batcher.submit(lit(0.1)), batcher.submit(lit(0.2))
    held.go.set()
    with pytest.raises(RefusedError, match="could not judge"):
        running.result(30)
    with pytest.raises(RefusedError, match="does not judge now"):
        left.result(30)
    wait_for(lambda: not batcher.alive)
    assert not batcher.ready
    with pytest.raises(RefusedError, match="does not judge now") as caught:
        batcher.submit(lit(0.3))
    assert caught.value.status == 503
