"""Training: resumable, reproducible, the best checkpoint kept, the caller's net untouched."""

import dataclasses

import pytest
import torch

from buckler.errors import DataError, UsageError
from buckler.harden import (
    RECIPES,
    Estimate,
    Recipe,
    RobustValidation,
    estimate,
    harden,
    within,
)
from buckler.harden.awp import perturbed
from buckler.harden.objectives import Attacked, Noise, OneStep, Standard, Trades
from buckler.harden.validate import Validation
from buckler.threats import LpBall
from tests.conftest import TinyNet, blobs

THREAT = LpBall("linf", 0.1)
OBJECTIVES = [
    Standard(),
    Noise(),
    Attacked(threat=THREAT, steps=2),
    Trades(threat=THREAT, steps=2),
    OneStep(threat=THREAT),
]


def recipe(objective, epochs=4, **changes):
    changes = {"validate_every": 2, "batch_size": 64, **changes}
    return Recipe("test", objective, epochs, **changes)


def in_third_epoch(done, total):
    if done > total / 2:
        raise KeyboardInterrupt


def validation(dataset):
    return RobustValidation(dataset["select"].x, dataset["select"].y, THREAT, steps=3)


def weights(model):
    return torch.cat([p.flatten() for p in model.parameters()])


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: type(o).__name__)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(objective, dataset, tmp_path):
    fit, path = dataset["fit"], tmp_path / "run.safetensors"
    whole = harden(TinyNet(), fit.x, fit.y, recipe(objective), validation(dataset))
    calls = []
    arguments = (fit.x, fit.y, recipe(objective), validation(dataset))
    with pytest.raises(KeyboardInterrupt):
        harden(TinyNet(), *arguments, checkpoint=path, progress=in_third_epoch)
    resumed = harden(TinyNet(), *arguments, checkpoint=path, progress=lambda *d: calls.append(d))
    total = calls[-1][1]
    assert [done for done, _ in calls] == list(range(total // 2 + 1, total + 1))
    assert torch.equal(weights(whole.model), weights(resumed.model))
    history = [{k: v for k, v in row.items() if k != "seconds"} for row in whole.history]
    assert history == [{k: v for k, v in row.items() if k != "seconds"} for row in resumed.history]


@pytest.mark.parametrize("change", ["seed", "recipe", "data", "judge", "garbage"])
def test_a_checkpoint_of_another_run_is_not_taken_up(change, dataset, tmp_path):
    fit, path = dataset["fit"], tmp_path / "run.safetensors"
    first = recipe(Standard())
    harden(TinyNet(), fit.x, fit.y, first, validation(dataset), checkpoint=path)
    batches = []
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
    judge = "another threat" if change == "judge" else ""
    harden(
        TinyNet(), x, fit.y, first, validation(dataset), seed=seed, judged_by=judge,
        checkpoint=path, progress=lambda done, _: batches.append(done),
    )  # fmt: skip
    assert batches[0] == 1


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
    found = harden(
        net, fit.x, fit.y, recipe(Attacked(threat=THREAT, steps=2), 1), validation(dataset)
    )
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
    for name in ("standard", "mixed"):
        made = dataclasses.replace(RECIPES[name](30, THREAT), lr=1e-2)
        found = harden(TinyNet(), fit.x, fit.y, made, validation(dataset))
        robust[name] = measure(found.model)
    assert robust["mixed"].robust > robust["standard"].robust
    assert robust["mixed"].clean > 0.9


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
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    whole = harden(Noisy(), *arguments)
    assert torch.equal(state, torch.random.get_rng_state())
    with pytest.raises(KeyboardInterrupt):
        harden(Noisy(), *arguments, checkpoint=path, progress=in_third_epoch)
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
    both = 2 if isinstance(objective, Trades) else 1  # it looks at x and at x_adv together
    assert seen == [16 * both, 17 * both]


def test_an_attack_gives_every_part_its_mode_back(dataset):
    x, y = dataset["fit"].x[:8], dataset["fit"].y[:8]
    net = TinyNet().train()
    net.body[2].eval()
    modes = [part.training for part in net.modules()]
    Attacked(threat=THREAT, steps=1).craft(net, x, y, 0, torch.arange(8), 1.0)
    assert [part.training for part in net.modules()] == modes


def constant(_):
    return Validation(0.3, 0.3, constant=True)


def test_a_net_that_stays_at_one_class_begins_again_with_half_the_rate(dataset):
    fit, seen = dataset["fit"], []
    made = recipe(Standard(), validate_every=1, batch_size=1)

    def twice_constant(model):
        seen.append(weights(model).clone())
        return Validation(0.5, 0.5, constant=len(seen) <= 4 and len(seen) % 2 == 0)

    found = harden(TinyNet(), fit.x, fit.y, made, twice_constant)
    assert [row["epoch"] for row in found.history] == [1, 2, 1, 2, 1, 2, 3, 4]
    assert [index for index, row in enumerate(found.history) if "restarted" in row] == [1, 3]
    step = [(seen[i] - weights(TinyNet())).abs().max() for i in (0, 2, 4)]
    assert step[0] > 1.5 * step[1] > 2 * step[2]
    with pytest.raises(UsageError, match="answers one class throughout after 2 epochs, 3 times"):
        harden(TinyNet(), fit.x, fit.y, made, constant)


def test_a_short_training_may_end_with_one_answer(dataset):
    """Too few steps to tell a stuck net from one that has hardly begun."""
    fit = dataset["fit"]
    found = harden(TinyNet(), fit.x, fit.y, recipe(Standard(), validate_every=1), constant)
    assert [row["epoch"] for row in found.history] == [1, 2, 3, 4]


def test_a_validation_sees_a_constant_answer(dataset):
    class Constant(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :3] * 0 + torch.tensor([0.0, 1.0, 0.0])

    validate = validation(dataset)
    assert validate(Constant()).constant
    assert not validate(TinyNet()).constant or validate(TinyNet()).clean < 0.5
    one = dataclasses.replace(validate, y=torch.ones_like(validate.y))
    assert not one(Constant()).constant


@pytest.mark.parametrize(
    ("one_step", "robust"), [(0.9, 0.7), (0.5, 0.5)], ids=["one step alone", "a sudden fall"]
)
def test_one_step_training_that_collapses_goes_back_and_on_with_pgd(one_step, robust, dataset):
    """Rolled back to the best weights, and the fallback's points from then on."""
    fit, crafted, judged = dataset["fit"], [], []

    class Fallback(Attacked):
        def craft(self, model, x, y, seed, rows, warm):
            if not crafted:
                crafted.append(weights(model).clone())
            return super().craft(model, x, y, seed, rows, warm)

    def collapses_third(model):
        judged.append(weights(model).clone())
        if len(judged) == 3:
            return Validation(0.9, robust, one_step=one_step)
        return Validation(0.9, 0.8 - 0.01 * len(judged), one_step=0.85)

    made = recipe(
        OneStep(threat=THREAT), 5, validate_every=1, fallback=Fallback(threat=THREAT, steps=1)
    )
    found = harden(TinyNet(), fit.x, fit.y, made, collapses_third)
    assert [index for index, row in enumerate(found.history) if "fell_back" in row] == [2]
    assert torch.equal(crafted[0], judged[0])


def test_training_ends_when_the_time_or_the_patience_does(dataset):
    fit = dataset["fit"]
    made = recipe(Standard(), 50, validate_every=1, patience=3, warmup=0.04)
    falling = iter([0.5 - 0.01 * i for i in range(50)])
    found = harden(TinyNet(), fit.x, fit.y, made, lambda m: Validation(0.5, next(falling)))
    assert found.history[-1]["epoch"] == 6  # best at 3, the first after the warm-up
    found = harden(TinyNet(), fit.x, fit.y, recipe(Standard(), 50), validation(dataset), seconds=0)
    assert len(found.history) == 1


def test_weights_are_worst_nearby_inside_and_back_outside(dataset):
    """Each matrix moves by `size` of its norm, the loss rises, and nothing is left of it."""
    x, y = dataset["fit"].x[:32], dataset["fit"].y[:32]
    net = TinyNet()
    before = [p.detach().clone() for p in net.parameters()]

    def loss():
        return torch.nn.functional.cross_entropy(net(x), y)

    plain = loss().item()
    with perturbed(net, loss, 0.05):
        for p, was in zip(net.parameters(), before, strict=True):
            moved = float((p - was).norm() / was.norm())
            assert moved == pytest.approx(0.05 if p.ndim > 1 else 0.0, rel=1e-4)
        assert loss().item() > plain
    assert all(torch.equal(p, was) for p, was in zip(net.parameters(), before, strict=True))


def test_trades_pulls_the_answers_nearby_together(dataset):
    """With a large beta answers hardly move under attack, at some cost in clean accuracy."""
    fit, test = dataset["fit"], dataset["test"]
    moved = []
    for beta in (0.0, 20.0):
        made = recipe(Trades(threat=THREAT, beta=beta, steps=3), 20, lr=1e-2)
        net = harden(TinyNet(), fit.x, fit.y, made, validation(dataset)).model
        x_adv = Attacked(threat=THREAT).craft(
            net, test.x, test.y, 0, torch.arange(len(test.x)), 1.0
        )
        moved.append(float((net(x_adv).softmax(1) - net(test.x).softmax(1)).abs().mean()))
    assert moved[1] < 0.5 * moved[0]


def test_one_step_training_steps_once_from_noise_twice_as_wide(dataset):
    x, y = dataset["fit"].x[:8], dataset["fit"].y[:8]
    x_adv = OneStep(threat=THREAT).craft(TinyNet(), x, y, 0, torch.arange(8), 1.0)
    far = (x_adv - x).abs()
    assert float(far.max()) > 2 * THREAT.eps
    assert float(far.max()) <= 3 * THREAT.eps + 1e-6
    assert 0 <= float(x_adv.min()) <= float(x_adv.max()) <= 1


def test_an_estimate_is_near_what_the_training_takes(dataset):
    """Within a factor of two and a half: this machine is shared."""
    x, y = (torch.cat([part] * 20) for part in (dataset["fit"].x, dataset["fit"].y))
    made = recipe(Attacked(threat=THREAT), 4, validate_every=1)
    expected = estimate(TinyNet(), x, y, made, validation(dataset)).of(made)
    taken = sum(r["seconds"] for r in harden(TinyNet(), x, y, made, validation(dataset)).history)
    assert 0.4 < expected / taken < 2.5


def test_a_recipe_is_cut_to_the_time_there_is():
    made = recipe(Standard(), 40, validate_every=2)
    found = Estimate(epoch=2.0, validation=4.0)
    assert found.of(made) == 160
    assert within(made, found, 40.5).epochs == 10
    assert within(made, found, 1e6).epochs == 40
    assert within(made, found, 1.0).epochs == 1


def test_time_that_ends_before_a_validation_still_gives_the_trained_net(dataset):
    fit = dataset["fit"]
    found = harden(TinyNet(), fit.x, fit.y, recipe(Standard(), 50), validation(dataset), seconds=0)
    assert len(found.history) == 1
    assert not torch.equal(weights(found.model), weights(TinyNet()))


def test_each_new_attempt_has_twice_the_warm_up_before_it_is_judged(dataset):
    fit, epochs = dataset["fit"], []
    made = recipe(Standard(), 12, validate_every=1, batch_size=1, warmup=0.25)

    def stuck(model):
        epochs.append(1)
        return Validation(0.3, 0.3, constant=True)

    with pytest.raises(UsageError, match="3 times"):
        harden(TinyNet(), fit.x, fit.y, made, stuck)
    assert len(epochs) == 3 + 6 + 6  # 0.25, 0.5 and at most 0.5 of twelve
