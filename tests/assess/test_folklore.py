"""Defences that do not hold: each falls to an attacker who knows it."""

import pytest
import torch

from buckler.assess import assess
from buckler.assess.folklore import noisy, range_check, voting
from buckler.attacks import PGD
from buckler.threats import LpBall
from tests.conftest import TinyNet

THREAT = LpBall("linf", 0.3)
SUITE = (PGD(steps=30, step_size=0.25, loss="margin", decay=True),)


def targets(trained, spec):
    return [range_check(trained, spec), noisy(trained, spec), voting([trained] * 3, spec)]


@pytest.mark.parametrize("index", range(3))
def test_each_falls_to_an_attacker_who_knows_it(index, dataset, trained):
    target, test = targets(trained, dataset.spec)[index], dataset["test"]
    found = assess(target, test.x, test.y, THREAT, SUITE).ledger.rates()
    assert found["clean_accuracy"].value > 0.9
    assert found["review_rate"].value == 0
    assert found["success"].value > 0.9


def test_a_range_check_rejects_what_is_outside(dataset, trained):
    x = dataset["test"].x[:4].clone()
    x[1, 0, 0, 0] = 1.01
    _, accepted = range_check(trained, dataset.spec).answer(x)
    assert accepted.tolist() == [True, False, True, True]


def test_noise_is_the_same_for_the_same_content_and_differs_between_draws(dataset, trained):
    target, x = noisy(trained, dataset.spec, sigma=0.5), dataset["test"].x[:50]
    first, again = target.answer(x)[0], target.answer(x)[0]
    assert torch.equal(first, again)
    other = noisy(TinyNet(), dataset.spec, sigma=0.5)
    assert not torch.equal(other.answer(x)[0], other.answer((x + 1e-4).clamp(0, 1))[0])
    assert target.random


def test_a_vote_is_the_majority_and_not_the_surest(dataset):
    class Says(torch.nn.Module):
        def __init__(self, label, sure):
            super().__init__()
            self.label, self.sure = label, sure

        def forward(self, x):
            return (
                self.sure
                * torch.nn.functional.one_hot(torch.full((len(x),), self.label), 3).float()
                + 0 * x.flatten(1)[:, :3]
            )

    x = dataset["test"].x[:2]
    target = voting([Says(0, 1.0), Says(0, 1.0), Says(2, 50.0)], dataset.spec)
    assert target.answer(x)[0].tolist() == [0, 0]
    assert target.view(x).argmax(1).tolist() == [2, 2]
    tie = voting([Says(0, 1.0), Says(2, 50.0)], dataset.spec)
    assert tie.answer(x)[0].tolist() == [2, 2]
