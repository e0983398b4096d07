"""Members are chosen under attack, and how differently they fail is measured."""

from dataclasses import replace

import pytest
import torch

from buckler.harden import Scores, choose_detectors, choose_weights, transfer_matrix
from buckler.harden.choose import mixtures
from buckler.threats import LpBall

THREAT = LpBall("linf", 0.1)


class Linear(torch.nn.Module):
    """Looks at one pixel alone: right of 0.5 is class 1."""

    def __init__(self, pixel, scale=10.0):
        super().__init__()
        self.pixel, self.scale = pixel, scale

    def forward(self, x):
        z = self.scale * (x.flatten(1)[:, self.pixel] - 0.5)
        return torch.stack([-z, z], 1)


class One(torch.nn.Module):
    """Class 0 always, with a slope that leads nowhere."""

    def forward(self, x):
        return torch.stack([1 + 0 * x.flatten(1)[:, 0], x.flatten(1)[:, 0] * 1e-3], 1)


def pixels(n=400, near=0.05):
    """Both pixels tell the class; pixel 0 lies nearer to the border than pixel 1."""
    y = torch.arange(n) % 2
    x = torch.full((n, 1, 1, 4), 0.5)
    sign = (2 * y - 1).float()
    x[:, 0, 0, 0] += near * sign
    x[:, 0, 0, 1] += 0.3 * sign
    return x, y


def test_weights_are_chosen_under_attack_and_one_member_may_win(dataset, trained):
    select = dataset["select"]

    class Contrary(torch.nn.Module):
        def forward(self, x):
            return -trained(x)

    best, tried = choose_weights([trained, Contrary().eval()], select.x, select.y, THREAT)
    assert best.weights == (1.0, 0.0)
    assert len(tried) == 5
    assert best.accepted_wrong == min(m.accepted_wrong for m in tried)
    assert best.robust == max(m.robust for m in tried)


def test_the_member_an_attacker_cannot_move_wins():
    """Equal on clean rows: only an attack tells them apart."""
    x, y = pixels()
    best, tried = choose_weights([Linear(0), Linear(1)], x, y, THREAT)
    assert best.weights == (0.0, 1.0)
    assert best.accepted_wrong == 0
    weak = next(m for m in tried if m.weights == (1.0, 0.0))
    assert weak.clean == best.clean == 1
    assert weak.robust == 0


def test_wrong_and_unsure_is_not_accepted_and_wrong():
    """Points that win by less than the least sure clean rows go to people."""
    x, y = pixels(near=0.09)  # after 0.1 the answer is wrong, and the odds lower than on clean rows
    _, tried = choose_weights([Linear(0)], x, y, THREAT)
    assert tried[0].robust == 0
    assert tried[0].accepted_wrong == 0
    x, y = pixels(near=0.04)
    _, tried = choose_weights([Linear(0)], x, y, THREAT)
    assert tried[0].accepted_wrong == 1


@pytest.mark.parametrize(("members", "count"), [(1, 1), (2, 5), (3, 15), (5, 11)])
def test_mixtures_sum_to_one_and_hold_each_alone_and_all(members, count):
    found = mixtures(members)
    assert len(found) == len(set(found)) == count
    assert all(sum(weights) == pytest.approx(1) for weights in found)
    alone = [tuple(float(i == j) for j in range(members)) for i in range(members)]
    assert set(alone) <= set(found)
    if members > 3:
        assert (1 / members,) * members in found


def test_a_transfer_matrix_tells_members_that_fail_alike():
    x, y = pixels()
    same = transfer_matrix([Linear(0), Linear(0, 5.0)], x, y, THREAT)
    assert same == [[1, 1], [1, 1]]
    apart = transfer_matrix([Linear(0), Linear(1)], x, y, LpBall("linf", 0.1))
    assert apart == [[1, 0], [0, 0]]


def test_many_rows_are_drawn_not_taken_first():
    """The first rows are of one class: a choice from them alone would know nothing."""
    x, y = pixels(4000)
    order = y.argsort(stable=True)
    _, tried = choose_weights([One()], x[order], y[order], THREAT)
    assert tried[0].clean == pytest.approx(0.5, abs=0.05)


def test_detectors_are_chosen_by_what_gets_past_them(dataset, trained):
    """A forest on pixels sees nothing of the attack, confidence does; as good with less wins."""
    candidates = [Scores(("forest",)), Scores(("confidence", "margin")), Scores(("confidence",))]
    threat = LpBall("linf", 0.1)
    best, tried = choose_detectors(dataset, [trained], (1.0,), candidates, threat, review_rate=0.1)
    assert best.detectors == ("confidence",)
    assert tried[0].accepted_wrong > tried[2].accepted_wrong
    assert [c.detectors for c in tried] == [c.detectors for c in candidates]


def test_the_calibrate_split_chooses_no_detectors(dataset, trained):
    candidates = [Scores(("confidence",)), Scores(("energy",))]
    changed = replace(dataset, splits={**dataset.splits, "calibrate": dataset["verify"]})
    found = [
        choose_detectors(data, [trained], (1.0,), candidates, THREAT, review_rate=0.2)[1]
        for data in (dataset, changed)
    ]
    assert found[0] == found[1]
