"""Runner: bounded, first come first served, and no caller pays for another's mistake."""

import asyncio
import math
import random
import threading
import time
from collections import Counter
from concurrent.futures import Future

import pytest
import torch
from torch import Tensor

from buckler.serve.judged import Judged, checked, join
from buckler.serve.refusal import RefusedError
from buckler.serve.runner import Limits, Runner

from .tiny import DIES, Held, accept, wait_for


def lit(*values: float) -> Tensor:
    return torch.tensor(values)[:, None]


def sure(answer: Future[Judged]) -> list[float]:
    return [round(verdict.confidence, 4) for verdict in answer.result(30).verdicts]


def runner(judge: object = accept, **limits: object) -> Runner[Judged]:
    """A started one, without heartbeats unless asked for."""
    given = Limits(**{"heartbeat_s": 3600.0, "hung_after_s": 60.0, **limits})  # type: ignore[arg-type]
    found = Runner(lambda x: checked(judge(x)), join, lit(0.0), given)  # type: ignore[operator]
    found.start()
    return found


def refusal(answer: Future[Judged], status: int, sentence: str) -> None:
    with pytest.raises(RefusedError, match=sentence) as caught:
        answer.result(30)
    assert caught.value.status == status


def test_what_waits_is_judged_in_one_go_and_each_gets_its_own() -> None:
    held = Held()
    mine = runner(held, batch_rows=4)
    first = mine.submit(lit(0.1))
    assert held.entered.wait(30)
    rest = [mine.submit(x) for x in (lit(0.2, 0.3), lit(0.4), lit(0.5, 0.6))]
    assert (mine.rows_waiting, mine.bytes_waiting) == (5, 20)
    held.go.set()
    assert [sure(answer) for answer in (first, *rest)] == [[0.1], [0.2, 0.3], [0.4], [0.5, 0.6]]
    assert held.sizes == [1, 3, 2], "up to 4 rows a batch, no small request cut in two"
    assert (mine.rows_waiting, mine.bytes_waiting) == (0, 0)
    mine.stop()


def test_a_request_larger_than_a_batch_is_judged_in_several() -> None:
    held = Held()
    mine = runner(held, batch_rows=4)
    first = mine.submit(lit(0.1))
    assert held.entered.wait(30)
    large, last = mine.submit(lit(*(i / 10 for i in range(10)))), mine.submit(lit(0.9, 0.8))
    held.go.set()
    assert sure(large) == [i / 10 for i in range(10)]
    assert [sure(first), sure(last)] == [[0.1], [0.9, 0.8]]
    assert held.sizes == [1, 4, 4, 4], "the last batch takes the next one along"
    mine.stop()


def test_one_alone_waits_for_nobody() -> None:
    mine = runner()
    mine.submit(lit(0.1)).result(30)
    start = time.perf_counter()
    for _ in range(100):
        mine.submit(lit(0.1)).result(30)
    assert time.perf_counter() - start < 1, "no delay to let others come"
    mine.stop()


@pytest.mark.parametrize("limit", [{"queue_rows": 3}, {"queue_bytes": 12}])
def test_a_full_queue_refuses_the_next(limit: dict[str, int]) -> None:
    held = Held()
    mine = runner(held, batch_rows=4, **limit)
    mine.submit(lit(0.1))
    assert held.entered.wait(30)
    waiting = [mine.submit(lit(0.2, 0.3)), mine.submit(lit(0.4))]
    with pytest.raises(RefusedError, match="busy, 4 rows wait: try again in 1 s") as caught:
        mine.submit(lit(0.5))
    assert (caught.value.status, caught.value.headers) == (429, {"retry-after": "1"})
    assert waiting[0].cancel(), "a caller that gave up frees its room"
    waiting.append(mine.submit(lit(0.6, 0.7)))
    held.go.set()
    assert [sure(answer) for answer in waiting[1:]] == [[0.4], [0.6, 0.7]]
    assert held.sizes == [1, 3], "who gave up is not judged"
    mine.stop()


def test_the_late_make_room_and_are_not_judged() -> None:
    held = Held()
    mine = runner(held, queue_rows=2)
    mine.submit(lit(0.1))
    assert held.entered.wait(30)
    soon = time.monotonic() + 0.02
    late = [mine.submit(lit(0.2), soon), mine.submit(lit(0.3), soon)]
    time.sleep(0.03)
    follows = mine.submit(lit(0.4))
    for answer in late:
        refusal(answer, 504, "did not answer in time")
    held.go.set()
    assert sure(follows) == [0.4]
    assert held.sizes == [1, 1]
    mine.stop()


def test_who_cannot_be_in_time_is_refused_at_once_and_told_when_to_come() -> None:
    def slow(x: Tensor) -> object:
        time.sleep(0.02 * len(x))
        return accept(x)

    mine = runner(slow, batch_rows=10)
    mine.submit(lit(*[0.5] * 10)).result(30)  # 50 rows a second
    waiting = [mine.submit(lit(*[0.5] * 50)) for _ in range(2)]
    with pytest.raises(RefusedError, match="rows wait") as caught:
        mine.submit(lit(0.1), time.monotonic() + 0.5)
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) in (2, 3), "100 rows at 50 a second"
    assert sure(mine.submit(lit(0.2), time.monotonic() + 60)) == [0.2]
    for answer in waiting:
        answer.result(0)
    mine.stop()


def test_a_late_answer_is_a_refusal_and_frees_its_room() -> None:
    held = Held()
    mine = runner(held)

    async def ask(value: float) -> None:
        await mine.answer(lit(value), asyncio.get_running_loop().time() + 0.02)

    for value in (0.1, 0.2):
        with pytest.raises(RefusedError, match="did not answer in time") as caught:
            asyncio.run(ask(value))
        assert caught.value.status == 504
        assert mine.rows_waiting == 0
    held.go.set()
    assert sure(mine.submit(lit(0.3))) == [0.3]
    mine.stop()


def test_a_judge_that_fails_fails_its_batch_only() -> None:
    def moody(x: Tensor) -> object:
        if float(x.max()) > 0.5:
            raise RuntimeError("too bright")
        return accept(x)

    mine = runner(moody)
    with pytest.raises(RefusedError, match="nothing was accepted") as caught:
        mine.submit(lit(0.9)).result(30)
    assert caught.value.status == 500
    assert str(caught.value.__cause__) == "too bright"
    assert "bright" not in str(caught.value)
    assert sure(mine.submit(lit(0.2))) == [0.2]
    assert mine.ready
    mine.stop()


def test_the_rest_of_a_large_request_that_failed_is_not_judged() -> None:
    sizes = []

    def fails(x: Tensor) -> object:
        sizes.append(float(x[0]))
        if float(x[0]) == 0.5:
            raise RuntimeError("too bright")
        return accept(x)

    mine = runner(fails, batch_rows=2)
    refusal(mine.submit(lit(*[0.5] * 8)), 500, "could not judge")
    assert mine.rows_waiting == 0
    assert sure(mine.submit(lit(0.25))) == [0.25]
    assert sizes == [0.5, 0.0, 0.25], "and a heartbeat between"
    mine.stop()


@pytest.mark.parametrize(
    ("judge", "why"),
    [
        (lambda x: accept(x).take(slice(1, None)), "0 verdicts for 1 rows"),
        (lambda x: accept(x * float("nan")), "no number"),
    ],
)
def test_a_guard_that_loses_rows_or_numbers_is_not_believed(judge: object, why: str) -> None:
    mine = runner(judge)
    with pytest.raises(RefusedError) as caught:
        mine.submit(lit(0.2)).result(30)
    assert caught.value.status == 500
    assert why in str(caught.value.__cause__)
    wait_for(lambda: not mine.ready)
    assert mine.not_ready == "broken"
    mine.stop()


def test_no_rows_are_a_mistake() -> None:
    mine = runner()
    with pytest.raises(ValueError, match="at least 1 row"):
        mine.submit(torch.zeros(0, 1))
    mine.stop()


def test_an_idle_runner_is_tried_and_found_out_and_comes_back() -> None:
    broken = threading.Event()

    def moody(x: Tensor) -> object:
        if broken.is_set():
            raise RuntimeError("no device")
        return accept(x)

    mine = runner(moody, heartbeat_s=0.02)
    assert sure(mine.submit(lit(0.2))) == [0.2]
    broken.set()
    wait_for(lambda: not mine.ready)
    with pytest.raises(RefusedError, match="fails on a blank input"):
        mine.submit(lit(0.2))
    broken.clear()
    wait_for(lambda: mine.ready)
    assert sure(mine.submit(lit(0.2))) == [0.2]
    assert mine.abandoned == 0
    mine.stop()


def test_a_judge_that_hangs_is_given_up_and_another_thread_takes_over() -> None:
    first, go = threading.Event(), threading.Event()

    def hangs_once(x: Tensor) -> object:
        if not first.is_set():
            first.set()
            go.wait(30)
            return accept(x + 0.5)
        return accept(x)

    mine = runner(hangs_once, hung_after_s=0.1)
    start = time.monotonic()
    in_hand = mine.submit(lit(0.1))
    assert first.wait(30)
    waiting = mine.submit(lit(0.2))
    for answer in (in_hand, waiting):
        refusal(answer, 503, "the guard hung")
    assert time.monotonic() - start < 2
    wait_for(lambda: mine.ready)
    assert sure(mine.submit(lit(0.3))) == [0.3]
    go.set()
    time.sleep(0.02)
    refusal(in_hand, 503, "the guard hung")
    assert sure(mine.submit(lit(0.4))) == [0.4], "the late answer went nowhere"
    assert mine.abandoned == 1
    mine.stop()


def test_a_judge_that_hangs_too_often_is_broken_for_good() -> None:
    held = Held()
    mine = runner(held, hung_after_s=0.05, abandonments=2)
    refusal(mine.submit(lit(0.1)), 503, "the guard hung")
    wait_for(lambda: mine.broken)
    assert (mine.not_ready, mine.abandoned) == ("hung", 3)
    with pytest.raises(RefusedError, match="the guard hung") as caught:
        mine.submit(lit(0.3))
    assert caught.value.status == 503
    held.go.set()
    mine.stop()


@pytest.mark.filterwarnings(DIES)
def test_a_thread_that_dies_refuses_all_who_wait_and_is_replaced() -> None:
    held, dead = Held(), threading.Event()

    def dies_once(x: Tensor) -> object:
        answer = held(x)
        if not dead.is_set():
            dead.set()
            raise SystemExit
        return answer

    mine = runner(dies_once, batch_rows=1)
    in_hand, left = mine.submit(lit(0.1)), mine.submit(lit(0.2))
    held.go.set()
    refusal(in_hand, 500, "could not judge")
    refusal(left, 503, "the thread that judges died")
    wait_for(lambda: mine.ready)
    assert sure(mine.submit(lit(0.3))) == [0.3]
    mine.stop()


def test_stopping_drains_the_queue() -> None:
    def slow(x: Tensor) -> object:
        time.sleep(0.01)
        return accept(x)

    mine = runner(slow, batch_rows=1)
    answers = [mine.submit(lit(value)) for value in (0.1, 0.2, 0.3)]
    mine.stop(timeout_s=30)
    assert [sure(answer) for answer in answers] == [[0.1], [0.2], [0.3]]
    with pytest.raises(RefusedError, match="it is stopping"):
        mine.submit(lit(0.4))


def test_what_a_stuck_judge_leaves_is_refused() -> None:
    held = Held()
    mine = runner(held, batch_rows=1)
    running = mine.submit(lit(0.1))
    assert held.entered.wait(30)
    left = mine.submit(lit(0.2))
    mine.stop(timeout_s=0)
    refusal(left, 503, "it is stopping")
    held.go.set()
    assert sure(running) == [0.1]


def test_draining_is_not_ready_and_answers_still() -> None:
    mine = Runner(accept, join, lit(0.0), Limits())
    assert mine.not_ready == "starting"
    with pytest.raises(RefusedError, match="it is starting"):
        mine.submit(lit(0.2))
    mine.start()
    assert mine.ready
    mine.drain()
    assert mine.not_ready == "stopping"
    assert sure(mine.submit(lit(0.2))) == [0.2]
    mine.stop()


def test_whatever_happens_each_is_answered_once_and_rightly() -> None:
    """Threads that submit and give up, before a judge that fails, dawdles and hangs, by seed."""
    draw, lock = random.Random(0), threading.Lock()
    let_go = threading.Event()

    def moody(x: Tensor) -> object:
        with lock:
            mood = draw.random()
        if mood < 0.05 and len(x) > 1:
            raise RuntimeError("a bad day")
        if 0.05 <= mood < 0.06:
            let_go.wait(30)
        time.sleep(0.002 * mood)
        return accept(x)

    mine = runner(moody, batch_rows=8, queue_rows=64, hung_after_s=0.1, abandonments=10**6)
    asked: list[tuple[Tensor, Future[Judged]]] = []
    calls: list[int] = []

    def caller(number: int) -> None:
        own = random.Random(number)
        for turn in range(60):
            x = torch.rand(own.randint(1, 20), 1, generator=torch.Generator().manual_seed(turn))
            try:
                answer = mine.submit(x, time.monotonic() + own.choice([0.002, 0.05, 60.0]))
            except RefusedError as error:
                assert error.status in (429, 503)  # noqa: PT017
                time.sleep(0.002)
                continue
            asked.append((x, answer))
            answer.add_done_callback(lambda done: calls.append(id(done)))
            if own.random() < 0.3:
                answer.cancel()
            time.sleep(0.001 * own.random())

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_for(lambda: all(answer.done() for _, answer in asked))
    let_go.set()
    kinds = Counter(_kind(x, answer) for x, answer in asked)
    assert sorted(calls) == sorted(id(answer) for _, answer in asked)
    assert (mine.rows_waiting, mine.bytes_waiting) == (0, 0)
    assert set(kinds) <= {"right", "cancelled", 500, 503, 504}, kinds
    assert kinds["right"] > 20, kinds
    mine.stop()


def _kind(x: Tensor, answer: Future[Judged]) -> str | int:
    if answer.cancelled():
        return "cancelled"
    error = answer.exception()
    if error is None:
        return "right" if answer.result().verdicts == accept(x).verdicts else "wrong"
    assert isinstance(error, RefusedError)
    return error.status


def test_who_is_answered_in_the_loop_gives_up_in_time_and_leaves_the_queue() -> None:
    held = Held()
    mine = runner(held)

    async def ask() -> None:
        first = asyncio.create_task(mine.answer(lit(0.1), math.inf))
        await asyncio.to_thread(held.entered.wait, 30)
        gone = asyncio.create_task(mine.answer(lit(0.2, 0.3), math.inf))
        late = asyncio.create_task(mine.answer(lit(0.4), asyncio.get_running_loop().time() + 0.02))
        with pytest.raises(RefusedError, match="did not answer in time"):
            await late
        assert mine.rows_waiting == 2
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert mine.rows_waiting == 0
        held.go.set()
        assert [v.confidence for v in (await first).verdicts] == pytest.approx([0.1])

    asyncio.run(ask())
    assert held.sizes == [1]
    mine.stop()


def test_an_answer_for_a_loop_that_is_gone_harms_nobody() -> None:
    held = Held()
    mine = runner(held)

    async def leave() -> None:
        asyncio.create_task(mine.answer(lit(0.1), math.inf)).add_done_callback(lambda _: None)
        await asyncio.to_thread(held.entered.wait, 30)

    asyncio.run(leave())
    held.go.set()
    assert sure(mine.submit(lit(0.2))) == [0.2]
    assert mine.abandoned == 0
    mine.stop()
