"""draws: the bits never change, a row's numbers are its own, and they look random.

Statistical tests have fixed seeds, so they pass or fail for ever; each states how often a perfect
generator would fail it with a seed drawn afresh.
"""

import math

import pytest
import torch
from scipy.stats import chi2

from buckler import draws

ROWS = torch.arange(40)

# Pinned: results in ledgers and bundles name seeds, and a seed must mean the same for ever.
GOLDEN_UNIFORM = [  # times 2**24
    [[4060421, 2781983], [11158013, 15253192]],
    [[6201184, 6675501], [5866344, 8829068]],
    [[10469180, 9125905], [15338077, 11214752]],
]
GOLDEN_DERIVE = [2631537505891389924, 4513031048185085819, 9017893900260303862]
GOLDEN_PERMUTATION = [7, 5, 4, 6, 3, 0, 2, 1]
GOLDEN_INTEGERS = [0, 5, 9, 9, 2, 7, 5, 3]


def test_uniform_golden_values() -> None:
    got = draws.uniform(7, torch.tensor([0, 1, 123456789]), 3, (2, 2))
    assert (got * 2**24).long().tolist() == GOLDEN_UNIFORM


def test_derive_golden_values() -> None:
    assert [draws.derive(0), draws.derive(0, "a"), draws.derive(0, 1)] == GOLDEN_DERIVE


def test_permutation_golden_values() -> None:
    assert draws.permutation(5, 2, 8).tolist() == GOLDEN_PERMUTATION


def test_integers_golden_values() -> None:
    assert draws.integers(1, torch.tensor([4]), 0, (8,), 10)[0].tolist() == GOLDEN_INTEGERS


def splitmix64(state: int) -> int:
    """SplitMix64's finaliser in plain Python whole numbers: the oracle."""
    mask = (1 << 64) - 1
    z = state & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


@pytest.mark.parametrize("row", [0, 1, 2**40, -3])
def test_uniform_is_splitmix64_of_its_address(row: int) -> None:
    weyl = 0x9E3779B97F4A7C15
    key = splitmix64(splitmix64(row * weyl + draws.derive(11, 5)) + weyl)
    expected = [splitmix64(key + (i + 1) * weyl) >> 40 for i in range(6)]
    got = draws.uniform(11, torch.tensor([row]), 5, (6,))[0]
    assert (got * 2**24).long().tolist() == expected


@pytest.mark.parametrize("draw", [draws.uniform, draws.normal])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 4, 5)])
def test_a_row_does_not_depend_on_its_batch(draw, shape: tuple[int, ...]) -> None:
    whole = draw(3, ROWS, 2, shape)
    assert whole.shape == (40, *shape)
    assert whole.dtype == torch.float32
    order = torch.tensor([7, 0, 39, 7])
    assert torch.equal(draw(3, order, 2, shape), whole[order])
    assert draw(3, ROWS[:0], 2, shape).shape == (0, *shape)


def test_the_global_random_state_is_left_alone() -> None:
    state = torch.get_rng_state()
    draws.normal(0, ROWS, 0, (3,))
    draws.permutation(0, 0, 5)
    assert torch.equal(state, torch.get_rng_state())


def test_uniform_lies_in_its_range() -> None:
    u = draws.uniform(0, torch.arange(1000), 0, (1000,))
    assert 0 <= float(u.min()) < 1e-5
    assert 1 - 1e-5 < float(u.max()) < 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("rows", "size"), [(1, 65536), (256, 256), (65536, 1)])
def test_uniform_fills_its_cells_evenly(seed: int, rows: int, size: int) -> None:
    """Chi-square over 256 cells, both tails. A perfect generator fails once in 5,000 seeds."""
    u = draws.uniform(seed, torch.arange(rows), 0, (size,)).flatten()
    count = torch.bincount((u * 256).long(), minlength=256).double()
    expected = len(u) / 256
    statistic = float(((count - expected) ** 2 / expected).sum())
    assert chi2.ppf(1e-4, 255) < statistic < chi2.ppf(1 - 1e-4, 255)


@pytest.mark.parametrize("high", [2, 3, 10, 1000])
def test_integers_are_even_and_below_high(high: int) -> None:
    """A perfect generator fails once in 10,000 seeds."""
    k = draws.integers(1, torch.arange(400), 0, (250,), high)
    assert k.dtype == torch.int64
    count = torch.bincount(k.flatten(), minlength=high).double()
    assert len(count) == high
    expected = k.numel() / high
    assert float(((count - expected) ** 2 / expected).sum()) < chi2.ppf(1 - 1e-4, high - 1)


def test_integers_never_reach_high() -> None:
    top = torch.tensor(1 - 2.0**-24)  # the largest number that uniform gives
    assert all(int((top * high).long()) == high - 1 for high in range(1, 2**20, 997))


def test_normal_moments() -> None:
    """Four moments of 200,000 draws, each within 5 standard errors: once in a million seeds."""
    z = draws.normal(2, torch.arange(2000), 0, (100,)).double().flatten()
    n = len(z)
    assert abs(float(z.mean())) < 5 / math.sqrt(n)
    assert abs(float((z**2).mean()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((z**3).mean())) < 5 * math.sqrt(15 / n)
    assert abs(float((z**4).mean()) - 3) < 5 * math.sqrt(96 / n)
    assert bool(torch.isfinite(z).all())
    share = float((z.abs() < 1.959964).double().mean())
    assert abs(share - 0.95) < 5 * math.sqrt(0.95 * 0.05 / n)


@pytest.mark.parametrize("size", [1, 3, 4])
def test_normal_values_of_a_row_are_not_copies(size: int) -> None:
    z = draws.normal(2, torch.arange(50), 0, (size,))
    assert len(z.flatten().unique()) == 50 * size


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("seeds", (0, 0, 0), (1, 0, 0)),
        ("distant seeds", (0, 0, 0), (2**40, 0, 0)),
        ("negative seeds", (0, 0, 0), (-1, 0, 0)),
        ("steps", (0, 0, 0), (0, 1, 0)),
        ("rows", (0, 0, 0), (0, 0, 1)),
        ("distant rows", (0, 0, 0), (0, 0, 2**32)),
        ("seed and step swapped", (3, 5, 0), (5, 3, 0)),
    ],
)
def test_other_addresses_are_uncorrelated(name: str, first: tuple, second: tuple) -> None:
    """|correlation| of 100,000 pairs below 4.5 / sqrt(n): once in 100,000 seeds."""

    def values(seed: int, step: int, row: int) -> torch.Tensor:
        u = draws.uniform(seed, torch.tensor([row]), step, (100_000,))[0].double() - 0.5
        return u / u.std()

    a, b = values(*first), values(*second)
    for lag in (0, 1):
        assert abs(float((a[lag:] * b[: len(b) - lag]).mean())) < 4.5 / math.sqrt(len(a)), name


def test_neighbours_in_a_row_are_uncorrelated() -> None:
    """|correlation| at lags 1 to 5 below 4.5 / sqrt(n): once in 20,000 seeds."""
    u = draws.uniform(0, torch.tensor([0]), 0, (100_000,))[0].double() - 0.5
    for lag in range(1, 6):
        assert abs(float((u[lag:] * u[:-lag]).mean()) * 12) < 4.5 / math.sqrt(len(u))


def test_derive_separates_purposes() -> None:
    labels = [(0,), (1,), (0, "a"), (0, "b"), (0, 1), (0, "1"), (0, "a", "b"), (0, "b", "a"), (-1,)]
    seeds = [draws.derive(*label) for label in labels]
    assert len(set(seeds)) == len(labels)
    assert all(0 <= seed < 2**63 for seed in seeds)


@pytest.mark.parametrize("size", [0, 1, 2, 97, 5000])
def test_permutation_is_one(size: int) -> None:
    order = draws.permutation(4, 0, size)
    assert order.dtype == torch.int64
    assert order.sort().values.tolist() == list(range(size))


def test_permutations_differ_by_seed_and_step() -> None:
    assert not torch.equal(draws.permutation(0, 0, 100), draws.permutation(1, 0, 100))
    assert not torch.equal(draws.permutation(0, 0, 100), draws.permutation(0, 1, 100))


def test_permutation_puts_each_item_in_each_place() -> None:
    """Chi-square over 36 cells of 6,000 permutations: once in 10,000 seeds."""
    orders = torch.stack([draws.permutation(9, step, 6) for step in range(6000)])
    count = torch.stack([torch.bincount(orders[:, i], minlength=6) for i in range(6)]).double()
    assert float(((count - 1000) ** 2 / 1000).sum()) < chi2.ppf(1 - 1e-4, 25)
