"""Randomized smoothing on linear models, where the exact smoothed radius is the distance."""

import pytest
import torch
from torch import Tensor

from buckler.certify import certify, plug_in_radius
from buckler.certify.smoothing import quick
from buckler.errors import UsageError
from buckler.testing import LinearModel
from buckler.verdict import Certificate

SIGMA = 0.25


def halves(d: int = 4, scale: float = 3.0) -> LinearModel:
    """Class 1 where the mean direction is above 0.5·√d: distance along one unit vector."""
    weight = scale * torch.ones(1, d) / d**0.5
    return LinearModel(torch.cat([-weight, weight]), torch.tensor([1.0, -1.0]) * scale * d**0.5 / 2)


def at(distances: list[float], d: int = 4) -> Tensor:
    """Inputs at these signed distances from the border, off the axis by different amounts."""
    sideways = torch.zeros(len(distances), d)
    sideways[:, 0], sideways[:, 1] = torch.arange(len(distances)), -torch.arange(len(distances))
    return 0.5 + torch.tensor(distances)[:, None] / d**0.5 + 0.1 * sideways


def test_radii_never_exceed_the_truth_and_come_close() -> None:
    """30 rows at 10,000 draws. Each overshoots with probability at most alpha = 0.001: at most 3 %
    of seeds fail the first check."""
    shares = torch.linspace(0.3, 4, 15)
    distances = [float(s) * SIGMA * side for s in shares for side in (-1, 1)]
    certificates = certify(halves(), at(distances), sigma=SIGMA, n=10_000, seed=0)
    for distance, certificate in zip(distances, certificates, strict=True):
        assert certificate.radius <= abs(distance)
        assert certificate.label == int(distance > 0)
        assert certificate.radius >= 0.6 * abs(distance)
        assert (certificate.sigma, certificate.alpha, certificate.n) == (SIGMA, 0.001, 10_000)


def test_the_largest_radius_is_what_the_draws_allow() -> None:
    """All n draws agree: the bound is alpha^(1/n), and the radius sigma · Φ⁻¹ of it."""
    [far] = certify(halves(), at([50.0]), sigma=SIGMA, n=1000, n0=10)
    assert far.radius == pytest.approx(SIGMA * 2.462, abs=1e-3)  # Φ⁻¹(0.001^(1/1000))


def test_a_coin_abstains() -> None:
    """On the border each answer has probability ½: a label is given with probability ≤ alpha."""
    certificates = certify(halves(), at([0.0] * 20), sigma=SIGMA, n=500, alpha=0.001)
    assert certificates == [Certificate(None, 0.0, SIGMA, 0.001, 500)] * 20
    assert all(certificate.abstained for certificate in certificates)


def test_no_majority_of_three_abstains() -> None:
    """The top class has more than the others but less than half: nothing can be certified."""
    weight = torch.tensor([[1.0, 0.0], [-0.5, 0.866], [-0.5, -0.866]])
    model = LinearModel(weight, torch.zeros(3))
    [certificate] = certify(model, torch.tensor([[0.01, 0.0]]), sigma=1.0, n=2000)
    assert certificate.abstained


def test_the_plug_in_radius_over_claims() -> None:
    """At 3.5 sigma all of 1,000 draws agree; the share 1 taken for the truth gives 7 sigma."""
    distance = 3.5 * SIGMA
    [certificate] = certify(halves(), at([distance]), sigma=SIGMA, n=1000)
    assert certificate.radius <= distance < plug_in_radius(1000, 1000, SIGMA)
    assert plug_in_radius(500, 1000, SIGMA) == pytest.approx(0)


def test_plug_in_over_claims_in_every_second_run() -> None:
    """At a count that scatters about the truth, it lies above it about half of the time."""
    distance, over = SIGMA, 0
    for seed in range(30):
        [certificate] = certify(halves(), at([distance]), sigma=SIGMA, n=400, seed=seed)
        count = int(counts(seed))
        assert certificate.radius <= distance
        over += plug_in_radius(count, 400, SIGMA) > distance
    assert 5 <= over <= 25


def counts(seed: int) -> Tensor:
    noise = torch.randn(400, generator=torch.Generator().manual_seed(seed))
    return (SIGMA + SIGMA * noise > 0).sum()


@pytest.mark.parametrize("batch", [1, 77, 100_000])
def test_the_batch_size_changes_nothing(batch: int) -> None:
    x = at([0.1, -0.3])
    assert certify(halves(), x, sigma=SIGMA, n=300, n0=20, batch=batch) == certify(
        halves(), x, sigma=SIGMA, n=300, n0=20
    )


def test_the_seed_decides_and_the_draws_are_fresh() -> None:
    x = at([0.15, -0.2, 0.15])
    one, again, other = (certify(halves(), x, sigma=SIGMA, n=400, seed=s) for s in (0, 0, 1))
    assert one == again
    assert [c.radius for c in one] != [c.radius for c in other]


def test_guess_and_bound_use_different_noise() -> None:
    seen: list[Tensor] = []
    model = halves()

    def watched(x: Tensor) -> Tensor:
        seen.append(x.clone())
        return model(x)

    certify(watched, at([0.1]), sigma=SIGMA, n=100, n0=100)
    assert [len(x) for x in seen] == [100, 100]
    assert not torch.isclose(seen[0], seen[1]).any()
    noise = torch.cat(seen) - at([0.1])
    assert float(noise.std()) == pytest.approx(SIGMA, rel=0.12)
    assert float(torch.cat(seen).max()) > 1, "the noise must not be clipped to the box"


def test_many_draws_lay_the_net_out_and_change_nothing(dataset, trained) -> None:
    x = dataset["test"].x[:60]
    laid_out = quick(trained, x, SIGMA, 1000)
    assert laid_out is not trained
    noisy = x + SIGMA * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(laid_out(noisy), trained(noisy), atol=1e-4)
    assert quick(trained, x[:2], SIGMA, 1000) is trained, "few draws are not worth it"
    assert quick(trained.__call__, x, SIGMA, 1000) == trained.__call__
    many = certify(trained, x, sigma=SIGMA, n=1000)
    few = certify(trained, x[:2], sigma=SIGMA, n=1000)
    assert many[:2] == few


def test_progress_and_no_rows() -> None:
    told: list[tuple[int, int]] = []
    certify(halves(), at([0.1, 0.2]), sigma=1, n=50, progress=lambda *done: told.append(done))
    assert told == [(1, 2), (2, 2)]
    assert certify(halves(), at([0.1])[:0], sigma=1) == []


def test_nothing_is_touched() -> None:
    x, model, state = at([0.1]), halves(), torch.get_rng_state()
    before = x.clone()
    certify(model, x, sigma=SIGMA, n=50)
    assert torch.equal(x, before)
    assert torch.equal(state, torch.get_rng_state())
    assert model.training
    assert model.weight.grad is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"sigma": 0}, r"sigma > 0, n0 >= 1, 0 < alpha < 1\. Got 0, 100, 0\.001"),
        ({"sigma": float("nan")}, "Got nan, 100"),
        ({"sigma": 1, "n0": 0}, "Got 1, 0, 0.001"),
        ({"sigma": 1, "alpha": 0}, "Got 1, 100, 0"),
        ({"sigma": 1, "alpha": 1.0}, r"Got 1, 100, 1\.0"),
        (
            {"sigma": 1, "n": 9},
            "with n=9 draws and alpha=0.001 no answer can be certain: every row",
        ),
        ({"sigma": 1, "n": 1, "alpha": 0.5}, r"with n=1 draws and alpha=0\.5 no answer"),
    ],
)
def test_impossible_settings_are_refused(arguments: dict, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        certify(halves(), at([0.1]), **arguments)


def test_ten_draws_are_enough_for_some_answer() -> None:
    [certificate] = certify(halves(), at([50.0]), sigma=SIGMA, n=10, n0=1)
    assert certificate.radius > 0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_logits_that_are_no_numbers_are_refused(value: float) -> None:
    """argmax takes NaN for the largest: such a model would be certified at the largest radius."""
    with pytest.raises(UsageError, match="NaN or infinite"):
        certify(lambda x: halves()(x) * value, at([0.1]), sigma=SIGMA)


def test_noise_is_keyed_by_row_not_by_place_in_the_batch() -> None:
    x = at([0.2, 0.4, 0.6])
    every = certify(halves(), x, sigma=SIGMA, n=200)
    last = certify(halves(), x[2:], sigma=SIGMA, n=200, rows=torch.tensor([2]))
    assert last == every[2:]
