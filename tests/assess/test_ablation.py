"""What a part is worth is measured with that part taken out, and nothing else changed."""

from dataclasses import replace

import pytest
import torch

from buckler.assess.ablation import ablation, variants
from buckler.defenses import Median
from buckler.guard import calibrate
from buckler.stats import sign_test
from buckler.threats import LpBall
from tests.conftest import TinyNet

THREAT = LpBall("linf", 0.1)


class Broken(torch.nn.Module):
    """Always the same answer, and very sure of it."""

    def __init__(self):
        super().__init__()
        self.body = TinyNet()

    def forward(self, x):
        return self.body(x) * 1e-3 + torch.tensor([9.0, 0.0, 0.0])


@pytest.fixture(scope="module")
def guard(dataset, trained):
    return calibrate(
        dataset,
        [trained, Broken().eval()],
        (0.6, 0.4),
        views=(Median(2),),
        detectors=("confidence", "views"),
        review_rate=0.1,
    )


def test_each_part_is_taken_out_once_and_the_rest_stays(guard, dataset):
    found = dict(variants(guard, dataset))
    assert set(found) == {"detector confidence", "detector views", "member 1", "member 2"}
    assert [d.name for d in found["detector confidence"].detectors] == ["views"]
    without_views = found["detector views"]
    assert [d.name for d in without_views.detectors] == ["confidence"]
    assert without_views.views == ()
    assert len(found["member 1"].members) == 1
    for other in found.values():
        assert other.rule.calibration.target == guard.rule.calibration.target


def test_a_bad_member_does_not_pay_and_a_good_one_does(guard, dataset):
    test = dataset["test"]
    rows = torch.arange(len(test))
    found = {
        part.removed: part for part in ablation(guard, dataset, test.x, test.y, THREAT, rows=rows)
    }
    assert found["nothing"].worse == found["nothing"].better == 0
    assert not found["nothing"].pays
    assert found["member 1"].pays  # the bad one alone accepts wrong answers
    assert found["member 1"].worse > 20
    assert not found["member 2"].pays
    assert found["member 1"].to_dict()["rates"]["success_of_all"]["n"] == len(rows)


def test_a_sign_test_is_that_of_fair_coins():
    assert sign_test(0, 5) == pytest.approx(1 / 32)
    assert sign_test(1, 4) == pytest.approx(6 / 32)
    assert sign_test(0, 0) == 1
    assert sign_test(5, 5) > 0.5


def test_thresholds_by_class_stay_by_class(dataset, trained):
    whole = calibrate(
        dataset, [trained], (1.0,), detectors=("confidence", "margin"), review_rate=0.2
    )
    thresholds = (whole.rule.calibration,) * 3
    by_class = replace(whole, rule=replace(whole.rule, by_class=thresholds))
    asked = []

    def remember(data, **given):
        asked.append(given["by_class"])
        return whole

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("buckler.assess.ablation.calibrate", remember)
        variants(by_class, dataset)
        variants(whole, dataset)
    assert asked == [True, True, False, False]
