"""Jobs side by side."""

import threading

import pytest
import torch

from buckler.assess.parallel import shares, side_by_side


def test_results_come_in_the_jobs_order_whatever_ends_first():
    first_may_end = threading.Event()

    def slow():
        assert first_may_end.wait(10)
        return "slow"

    def quick():
        first_may_end.set()
        return "quick"

    assert side_by_side([slow, quick], workers=2) == ["slow", "quick"]
    assert side_by_side([quick, quick, quick], workers=1) == ["quick"] * 3
    assert side_by_side([], workers=2) == []


def test_a_jobs_exception_is_raised_and_the_thread_count_restored():
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError):
            side_by_side([lambda: 1 / 0, lambda: 1], workers=2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_jobs_may_seed_and_the_callers_draws_stay():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    side_by_side([lambda seed=seed: torch.manual_seed(seed) and None for seed in range(6)], 3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_jobs_tell_their_progress_as_one():
    told = []
    one, other = shares(lambda done, total: told.append((done, total)), 2)
    one(1, 4)
    other(3, 3)
    inner = shares(one, 2)  # a job of jobs
    inner[0](1, 1)
    inner[1](1, 1)
    assert told == [(25, 200), (125, 200), (150, 200), (200, 200)]
