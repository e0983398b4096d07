"""Training: resumable, reproducible, the best checkpoint kept, the caller's net untouched."""

import dataclasses

import pytest
import torch

from buckler.errors import DataError
from buckler.harden import RECIPES, Recipe, RobustValidation, choose_weights, harden
from buckler.harden.objectives import Mixed, Noise, Standard
from buckler.harden.validate import Validation
from buckler.threats import LpBall
from tests.conftest import TinyNet, blobs

THREAT = LpBall("linf", 0.1)
OBJECTIVES = [Standard(), Noise(0.05), Mixed(THREAT, steps=2)]


def recipe(objective, epochs=4, **changes):
    return Recipe("test", objective, epochs, validate_every=2, **changes)


def validation(dataset):
    return RobustValidation(dataset["select"].x, dataset["select"].y, THREAT, steps=3)


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(objective, dataset, tmp_path):
    fit, path = dataset["fit"], tmp_path / "run.safetensors"
    whole = harden(TinyNet(), fit.x, fit.y, recipe(objective), validation(dataset))
    calls = []

    def stop(done, total):
        calls.append(done)
        if len(calls) == 2:
            raise KeyboardInterrupt

    arguments = (fit.x, fit.y, recipe(objective), validation(dataset))
    with pytest.raises(KeyboardInterrupt):
        harden(TinyNet(), *arguments, checkpoint=path, progress=stop)
    resumed = harden(TinyNet(), *arguments, checkpoint=path, progress=lambda d, t: calls.append(d))
    assert calls == [1, 2, 3, 4]
    assert torch.equal(weights(whole.model), weights(resumed.model))
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]
    assert history == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history]


@pytest.mark.parametrize("change", ["seed", "recipe", "data", "garbage"])
def test_a_checkpoint_of_another_run_is_not_taken_up(change, dataset, tmp_path):
    fit, path = dataset["fit"], tmp_path / "run.safetensors"
    first = recipe(Standard())
    harden(TinyNet(), fit.x, fit.y, first, validation(dataset), checkpoint=path)
    epochs = []
    x, seed = fit.x, 0
    if change == "seed":
        seed = 1
    if change == "recipe":
        first = dataclasses.replace(first, lr=1e-4)
    if change == "data":
        x = fit.x.clone()
        x[0, 0, 0, 0] = 0.123
    if change == "garbage":
        path.write_bytes(b"garbage")
    harden(
        TinyNet(), x, fit.y, first, validation(dataset), seed=seed, checkpoint=path,
        progress=lambda d, t: epochs.append(d),
    )  # fmt: skip
    assert epochs == [1, 2, 3, 4]


def test_the_best_checkpoint_is_kept_not_the_last(dataset):
    fit = dataset["fit"]
    seen = []

    def fading(model):
        seen.append(weights(model).clone())
        return Validation(clean=1.0, robust=1 / len(seen))

    found = harden(TinyNet(), fit.x, fit.y, recipe(Standard(), epochs=6), fading)
    assert len(seen) == 3
    assert torch.equal(weights(found.model), seen[0])
    assert found.score == 1.0


def test_the_callers_net_and_random_state_are_untouched(dataset):
    fit, net = dataset["fit"], TinyNet().train()
    before, state = weights(net).clone(), torch.random.get_rng_state()
    found = harden(net, fit.x, fit.y, recipe(Mixed(THREAT, steps=2), 1), validation(dataset))
    assert torch.equal(before, weights(net))
    assert net.training
    assert all(p.grad is None and p.requires_grad for p in net.parameters())
    assert torch.equal(state, torch.random.get_rng_state())
    assert not found.model.training


def test_one_class_or_no_rows_are_refused():
    x, y = blobs(30)
    for rows in (y == 0, y > 5):
        with pytest.raises(DataError, match="at least 2 classes"):
            harden(TinyNet(), x[rows], y[rows], recipe(Standard()), lambda m: Validation(1, 1))


def test_adversarial_training_beats_standard_under_attack(dataset):
    fit, test = dataset["fit"], dataset["test"]
    measure = RobustValidation(test.x, test.y, THREAT, steps=20)
    robust = {}
    for name in ("standard", "adversarial"):
        made = dataclasses.replace(RECIPES[name](30, THREAT), lr=1e-2)
        found = harden(TinyNet(), fit.x, fit.y, made, validation(dataset))
        robust[name] = measure(found.model)
    assert robust["adversarial"].robust > robust["standard"].robust
    assert robust["adversarial"].clean > 0.9


def test_weights_are_chosen_under_attack_and_one_member_may_win(dataset, trained):
    select = dataset["select"]

    class Contrary(torch.nn.Module):
        def forward(self, x):
            return -trained(x)

    best, tried = choose_weights([trained, Contrary().eval()], select.x, select.y, THREAT)
    assert best.weights == (1.0, 0.0)
    assert len(tried) == 5
    assert best.found.robust == max(m.found.robust for m in tried)


def test_robust_validation_counts_over_all_rows(dataset):
    x, y = dataset["select"].x, dataset["select"].y
    found = RobustValidation(x, y, THREAT)(TinyNet(seed=7).eval())
    assert 0 <= found.robust <= found.clean < 1


class Noisy(torch.nn.Module):
    """A net whose training draws from torch's generator."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Dropout(0.5), TinyNet())

    def forward(self, x):
        return self.body(x)


def test_dropout_resumes_exactly_and_leaves_the_random_state(dataset, tmp_path):
    fit, path = dataset["fit"], tmp_path / "run.safetensors"
    arguments = (fit.x, fit.y, recipe(Standard()), validation(dataset))

    def stop(done, total):
        if done == 2:
            raise KeyboardInterrupt

    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    whole = harden(Noisy(), *arguments)
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(KeyboardInterrupt):
        harden(Noisy(), *arguments, checkpoint=path, progress=stop)
    torch.manual_seed(2)
    resumed = harden(Noisy(), *arguments, checkpoint=path)
    assert torch.equal(weights(whole.model), weights(resumed.model))
    other = harden(Noisy(), *arguments, seed=1)
    assert not torch.equal(weights(whole.model), weights(other.model))


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_a_last_batch_of_one_row_joins_the_one_before(objective, dataset):
    x, y = dataset["fit"].x[:33], dataset["fit"].y[:33]
    seen = []

    class Normed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(
                torch.nn.Flatten(), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 3)
            )

        def forward(self, x):
            if self.training:
                seen.append(len(x))
            return self.body(x)

    harden(Normed(), x, y, recipe(objective, 1, batch_size=16), validation(dataset))
    assert seen == [16, 17]


def test_mixed_gives_every_part_its_mode_back(dataset):
    x, y = dataset["fit"].x[:8], dataset["fit"].y[:8]
    net = TinyNet().train()
    net.body[2].eval()
    modes = [part.training for part in net.modules()]
    Mixed(THREAT, steps=1)(net, x, y, 0, torch.arange(8), 1.0)
    assert [part.training for part in net.modules()] == modes
