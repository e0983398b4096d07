"""A surrogate from answers alone: what it may ask, what it learns, and what it is good for."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from buckler import draws
from buckler.attacks.surrogate import Study, small_net, train_surrogate
from buckler.attacks.transfer import Transfer
from buckler.errors import BudgetError, UsageError
from buckler.models import Counted, TorchClassifier
from buckler.threats import LpBall
from tests.attacks.exact_linear import Counting
from tests.conftest import blobs

SHORT = {"rounds": 2, "epochs": 3}


class Linear:
    """A black box of three classes on 8×8 images, without gradients."""

    def __init__(self, answer: str = "logits") -> None:
        self.weight = draws.normal(5, torch.arange(64), 0, (3,)) / 2
        self.weight -= self.weight.mean(0)
        self.answer = answer

    def __call__(self, x: Tensor) -> Tensor:
        logits = (x.detach() - 0.5).flatten(1) @ self.weight
        if self.answer == "decisions":
            return functional.one_hot(logits.argmax(1), 3).float()
        return logits.softmax(1) if self.answer == "probabilities" else logits


def images(n: int, seed: int = 0) -> Tensor:
    return draws.uniform(seed, torch.arange(n), 0, (1, 8, 8))


@pytest.mark.parametrize(("rows", "queries"), [(40, 101), (40, 40), (40, 17), (40, 41), (5, 90)])
def test_every_query_is_counted_and_all_are_used(rows: int, queries: int) -> None:
    black_box = Counted(Linear(), queries)
    study = Study(queries, rounds=3, epochs=1)
    found = train_surrogate(black_box, images(rows).flatten(1), study)
    assert black_box.forwards == found.queries == queries
    assert black_box.backwards == 0
    with pytest.raises(BudgetError):
        black_box(images(1).flatten(1))


def test_what_is_asked_first_is_held_out_and_then_come_rows_of_x() -> None:
    """Agreement is measured on rows that are asked once, all different, and never learnt."""
    black_box, x = Counting(Linear()), images(30)
    found = train_surrogate(black_box, x, Study(60, held_out=0.2, step=1e-6, **SHORT))
    assert [len(rows) for rows in black_box.seen] == [6, 24, 15, 15]
    assert found.held_out == 6
    asked = torch.cat(black_box.seen[:2]).flatten(1)
    assert torch.equal(asked.sort(0).values, x.flatten(1).sort(0).values)
    fit = black_box.seen[1].flatten(1)
    for made in black_box.seen[2:]:
        apart = torch.cdist(made.flatten(1), black_box.seen[0].flatten(1)).amin()
        assert float(apart) > 0.1
        assert float(torch.cdist(made.flatten(1), fit).amin()) > 0.1, "between rows, not on them"


def test_made_rows_stay_in_the_box() -> None:
    black_box, x = Counting(Linear()), 4 * images(20) - 2
    train_surrogate(black_box, x, Study(80, step=0.5, **SHORT), box=(-2.0, 2.0))
    made = torch.cat(black_box.seen[2:])
    assert -2 <= float(made.min()) < -1.9
    assert 1.9 < float(made.max()) <= 2


def test_jacobian_rows_step_there_and_back_by_the_size_asked_for() -> None:
    black_box, x = Counting(Linear()), 0.5 + 0 * images(4)
    train_surrogate(black_box, x, Study(10, step=0.1, rounds=1, epochs=1))
    there, back = black_box.seen[2][:2] - 0.5
    torch.testing.assert_close(there, -back)
    moved = there.abs().flatten()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1))


@pytest.mark.parametrize("answer", ["logits", "probabilities", "decisions"])
def test_it_answers_as_the_black_box_does_whatever_comes_back(answer: str) -> None:
    black_box = Linear(answer)
    found = train_surrogate(black_box, images(300).flatten(1), Study(600, epochs=6))
    assert isinstance(found.model, TorchClassifier)
    fresh = images(500, seed=7).flatten(1)
    same = (found.model(fresh).argmax(1) == black_box(fresh).argmax(1)).double().mean()
    assert float(same) > 0.75, "three classes: chance is a third"
    assert abs(found.agreement - float(same)) < 4 * (0.25 / found.held_out) ** 0.5


def test_scores_teach_more_than_decisions_and_are_learnt_as_probabilities() -> None:
    """Logits and the same answers as probabilities are one lesson."""
    found = {
        answer: train_surrogate(Linear(answer), images(60).flatten(1), Study(120, **SHORT))
        for answer in ("logits", "probabilities", "decisions")
    }
    x = images(50, seed=3).flatten(1)
    logits, probabilities, decisions = (each.model(x) for each in found.values())
    torch.testing.assert_close(logits, probabilities, rtol=1e-3, atol=1e-3)
    assert float((logits - decisions).abs().max()) > 0.1


@pytest.mark.parametrize("answer", ["logits", "decisions"])
def test_attacks_on_it_fool_the_black_box_far_more_than_noise_of_their_size(answer: str) -> None:
    black_box = Linear(answer)
    x = images(300, seed=9).flatten(1)
    y = black_box(x).argmax(1)
    threat = LpBall("linf", 0.05)
    found = train_surrogate(black_box, images(300).flatten(1), Study(600, epochs=6))
    attack = Transfer((found.model,), diversity=0.0, kernel=0, copies=1)
    x_adv = attack(black_box, x, y, threat)

    def wins(points: Tensor) -> float:
        return float((black_box(points).argmax(1) != y).double().mean())

    coin = torch.where(images(300, seed=4).flatten(1) < 0.5, -0.05, 0.05)
    assert wins(x_adv) > wins((x + coin).clamp(0, 1)) + 0.3


def test_the_same_seed_gives_the_same_weights_and_leaves_torch_s_own() -> None:
    x, study = images(30), Study(60, **SHORT)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = train_surrogate(Linear(), x, study, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(12)
    second = train_surrogate(Linear(), x, study, seed=1)
    other = train_surrogate(Linear(), x, study, seed=2)
    weights = [list(each.model.state_dict().values()) for each in (first, second, other)]
    assert all(map(torch.equal, weights[0], weights[1]))
    assert not all(map(torch.equal, weights[0], weights[2]))


def test_the_surrogate_is_frozen_and_x_untouched() -> None:
    x = images(30)
    given = x.clone()
    found = train_surrogate(Linear(), x, Study(40, **SHORT))
    assert torch.equal(x, given)
    assert not any(part.training for part in found.model.modules())
    assert not any(value.requires_grad for value in found.model.parameters())


def test_a_net_of_ones_own_with_batch_norm_learns_too() -> None:
    """65 rows: the last batch would hold a single one, which has no variance."""

    def net() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        )

    found = train_surrogate(Linear(), images(72), Study(72, **SHORT), net=net)
    assert found.held_out == 7
    assert bool(torch.isfinite(found.model(images(3))).all())


@pytest.mark.parametrize(
    "shape", [(5,), (6, 7), (1, 8, 8), (3, 5, 9), (2, 28, 20), (3, 32, 32), (1, 1, 1)]
)
def test_the_small_net_takes_any_shape_and_scale(shape: tuple[int, ...]) -> None:
    x = 1000 + 500 * draws.uniform(0, torch.arange(20), 0, shape)
    x[:, 0] = 7.0  # a feature or channel that never moves
    net = small_net(x, 4)
    assert net(x).shape == (20, 4)
    assert float(net[0](x).abs().max()) < 5
    assert small_net(x.double(), 4).double()(x.double()).dtype == torch.float64


def test_vectors_are_scaled_feature_by_feature() -> None:
    x = draws.normal(0, torch.arange(200), 0, (3,)) * torch.tensor([1.0, 1000.0, 0.001])
    scaled = small_net(x, 2)[0](x)
    torch.testing.assert_close(scaled.std(0, correction=0), torch.ones(3))


def test_tabular_rows_and_float64() -> None:
    x = images(80).flatten(1)[:, :6].double()

    def black_box(x: Tensor) -> Tensor:
        return torch.stack([x[:, 0], x[:, 1]], 1) * 20

    found = train_surrogate(black_box, x, Study(200, epochs=5))
    assert found.agreement >= 0.75
    assert found.model(x).dtype == torch.float64


def test_blobs_are_learnt_from_a_trained_net_s_decisions(trained: nn.Module) -> None:
    x, _ = blobs(200, 5)
    decisions = lambda z: functional.one_hot(trained(z).argmax(1), 3).float()  # noqa: E731
    assert train_surrogate(decisions, x, Study(200, rounds=1, epochs=5)).agreement >= 0.9


def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match=r"at least 3 rows of x\. Got 2"):
        train_surrogate(Linear(), images(2), Study(10))
    with pytest.raises(UsageError, match="logits that are NaN or infinite"):
        train_surrogate(lambda x: Linear()(x) * torch.nan, images(5), Study(10))
    for options, sentence in (
        ({"queries": 2}, r"queries >= 3, .*Got queries=2"),
        ({"rounds": 0}, r"rounds >= 1 .*rounds=0"),
        ({"epochs": 0}, r"epochs >= 1\..*epochs=0"),
        ({"step": 0.0}, r"step > 0 .*step=0\.0"),
        ({"held_out": 1.0}, r"held_out between 0 and 1\. .*held_out=1\.0"),
    ):
        with pytest.raises(UsageError, match=sentence):
            Study(**{"queries": 10, **options})
