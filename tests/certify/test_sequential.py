"""Sequential smoothing against a classifier whose probability under noise is known in closed form:
logits (x₀, 0), so that class 0 answers with probability Φ(x₀ / σ) and the true radius is x₀."""

import math
from itertools import pairwise, product

import pytest
import torch
from scipy.stats import binom

from buckler.certify import certify, certify_at
from buckler.certify.sequential import climb, levels_of, looks
from buckler.errors import UsageError
from buckler.testing import LinearModel

SIGMA = 0.5
MODEL = LinearModel(torch.tensor([[1.0], [0.0]]), torch.zeros(2)).eval()


def at(distance: float, count: int) -> torch.Tensor:
    return torch.full((count, 1), distance)


@pytest.mark.parametrize("radius", [0.25, 0.5, 1.0])
def test_what_is_not_true_is_certified_at_most_alpha_of_the_time(radius: float) -> None:
    alpha, count = 0.1, 250
    found = certify_at(
        MODEL, at(radius * 0.999, count), sigma=SIGMA, radii=[radius], n=600, alpha=alpha
    )
    wrong = sum(not each.abstained for each in found)
    assert wrong <= binom.ppf(0.999, count, alpha)
    assert wrong > 0, "a test at this alpha that never errs would waste draws"


def test_several_radii_share_one_alpha() -> None:
    alpha, count = 0.1, 200
    found = certify_at(
        MODEL, at(0.4, count), sigma=SIGMA, radii=[0.41, 0.2, 0.42, 0.45], n=600, alpha=alpha
    )
    assert sum(each.radius > 0.4 for each in found) <= binom.ppf(0.999, count, alpha)
    assert sum(each.radius == 0.2 for each in found) > 0.85 * count


def test_clear_rows_take_few_draws_and_rows_at_the_border_all() -> None:
    radius, n = 0.5, 20_000
    clear = certify_at(MODEL, at(1.5, 20), sigma=SIGMA, radii=[radius], n=n)
    assert all(each.radius == radius and each.label == 0 for each in clear)
    assert max(each.n for each in clear) < 200
    hopeless = certify_at(MODEL, at(0.1, 20), sigma=SIGMA, radii=[radius], n=n)
    assert all(each.abstained for each in hopeless)
    assert max(each.n for each in hopeless) < 500
    border = certify_at(MODEL, at(radius, 3), sigma=SIGMA, radii=[radius], n=2000, give_up=1e-9)
    assert all(each.abstained and each.n == 2000 for each in border)


def test_it_certifies_nearly_what_a_large_fixed_number_of_draws_does() -> None:
    distance = 2 * torch.rand(80, 1, generator=torch.Generator().manual_seed(0))
    radius, n = 0.5, 10_000
    fixed = certify(MODEL, distance, sigma=SIGMA, n=n)
    found = certify_at(MODEL, distance, sigma=SIGMA, radii=[radius], n=n)
    by_much = [each.radius >= 1.05 * radius for each in fixed]
    assert all(not each.abstained for each, clear in zip(found, by_much, strict=True) if clear)
    assert sum(by_much) > 40
    assert sum(each.n for each in found) / len(found) < n / 5


def test_a_row_does_not_depend_on_the_others_nor_on_the_batch() -> None:
    x = torch.tensor([[0.2], [0.6], [1.4]])
    together = certify_at(MODEL, x, sigma=SIGMA, radii=[0.3, 0.5], n=3000)
    alone = certify_at(
        MODEL, x[1:2], sigma=SIGMA, radii=[0.3, 0.5], n=3000, rows=torch.tensor([1]), batch=7
    )
    assert alone == together[1:2]


def test_looking_often_keeps_alpha_by_enumeration() -> None:
    """At the border itself: the exact probability that a look passes, over all counts at all looks
    of 41 draws."""
    bar, n, alpha = 0.8, 41, 0.05
    points = sorted({*looks(n), *levels_of(bar, n, alpha)})
    steps = [upto - before for before, upto in pairwise([0, *points])]
    chances = [[float(binom.pmf(k, step, bar)) for k in range(step + 1)] for step in steps]
    wrong = total = 0.0
    for path in product(*(range(step + 1) for step in steps)):
        chance = math.prod(each[k] for each, k in zip(chances, path, strict=True))
        counted = iter(path)
        reached, used = climb(
            lambda copies, k=counted: torch.tensor([next(k)]), 0, [bar], n, alpha, 0
        )
        total += chance
        wrong += chance * reached
        assert used in points
    assert total == pytest.approx(1)
    assert 0.3 * alpha < wrong <= alpha


@pytest.mark.parametrize("bar", [0.6, 0.9, 0.99865])
@pytest.mark.parametrize("n", [50, 900, 20_000])
def test_the_looks_share_alpha_and_the_first_can_pass(bar: float, n: int) -> None:
    levels = levels_of(bar, n, 0.001)
    assert sum(levels.values()) == pytest.approx(0.001)
    assert max(levels) == n
    first = min(levels)
    if first < n:
        assert bar**first <= levels[first] < bar ** (first - 1)
        reached, used = climb(lambda copies: torch.tensor([len(copies)]), 0, [bar], n, 0.001, 0)
        assert (reached, used) == (1, first), "no dissent: it ends there"


def test_bad_budgets() -> None:
    x = at(1.0, 1)
    with pytest.raises(UsageError, match="radii > 0"):
        certify_at(MODEL, x, sigma=SIGMA, radii=[])
    with pytest.raises(UsageError, match="100 draws can never certify radius"):
        certify_at(MODEL, x, sigma=SIGMA, radii=[1.5], n=100)
    with pytest.raises(UsageError, match="sigma > 0"):
        certify_at(MODEL, x, sigma=0.0, radii=[1.0])
