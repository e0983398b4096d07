"""Certificates of trees against enumeration: never certified where a row gets through."""

import pytest
import torch

from buckler import draws
from buckler.attacks import Enumerate
from buckler.certify import decide
from buckler.errors import UsageError
from buckler.harden import BoostingRecipe, harden_boosting
from buckler.models.alerts import Alerting
from buckler.models.worst import WorstCase
from buckler.threats.features import FeatureThreat
from buckler.threats.features.legal import legal
from buckler.threats.features.room import box
from buckler.threats.features.validate import validate
from tests.threats.features import shop

pytest.importorskip("veritas")
LIBRARIES = ("xgboost", "lightgbm")
FINITE = shop.without("share")
THREATS = [
    FeatureThreat(FINITE, 1.0),
    FeatureThreat(FINITE, 4.0, profit=True),
    FeatureThreat(FINITE, 0.4, "linf"),
    FeatureThreat(FINITE, 0.5, "l2"),
    FeatureThreat(FINITE, 2, "changes"),
]


def booster(library: str, rounds: int = 12):
    pytest.importorskip(library)
    x = shop.rows(400, seed=9)
    score = x[:, 0] / 250 + x[:, 1] / 3 - x[:, 3] + (x[:, 4] - x[:, 6]) + 2 * x[:, 7]
    y = (score > score.median()).long()
    recipe = BoostingRecipe(
        library, rounds=rounds, open_rounds=rounds, depth=3, rate=0.3, monotone=False
    )
    return harden_boosting(x, y, THREATS[0], recipe)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_certified_where_nothing_gets_through_and_evadable_where_something_does(library, threat):
    model = Alerting(booster(library), 0.3)
    x = shop.rows(40, seed=5)
    y = model(x).argmax(1)
    said = decide(model, x, y, threat)
    through = model(Enumerate()(model, x, y, threat)).argmax(1) != y
    for row, each in enumerate(said.certificates):
        if each.label is not None:
            assert not through[row]
            assert each.label == y[row]
        if each.evadable:
            assert through[row]
    assert (model(said.x_adv).argmax(1) != y).tolist() == [
        each.evadable for each in said.certificates
    ]
    assert not any(validate(threat, x, said.x_adv))
    assert 0.5 < said.decided <= 1
    assert any(each.evadable for each in said.certificates)
    if threat.unit == "linf":  # there the box is the threat
        assert any(each.label is not None for each in said.certificates)


@pytest.mark.parametrize("threat", THREATS, ids=str)
def test_no_row_that_may_be_sent_lies_outside_the_box(threat):
    x = shop.rows(6, seed=2)
    low, high = box(threat, x)
    u = draws.uniform(0, torch.arange(3000), 0, (len(FINITE.features),)).double()
    for row in range(len(x)):
        start = FINITE.decode(x[row : row + 1]).expand(len(u), -1)
        raw = start.clone()
        for index in FINITE.mutable:
            feature = FINITE.features[index]
            ends = feature.ends
            drawn = (ends[0] + (ends[1] - ends[0] + 1) * u[:, index]).floor()
            if feature.levels:
                drawn = feature.values[(u[:, index] * len(feature.levels)).long()]
            raw[:, index] = torch.where(u[:, index - 1] < 0.6, start[:, index], drawn)
        raw[:, 7] = torch.where(
            (raw != start).any(1), (raw[:, 2] / (1 + raw[:, 1])).float().double(), start[:, 7]
        )
        at = threat.take(torch.full((len(u),), row))
        raw = raw[legal(FINITE, start, raw) & at.affordable(start, raw)]
        sent = FINITE.encode(raw, like=x)
        assert len(sent) > 1
        outside = (sent < low[row].float()) | (sent > high[row].float())
        assert not bool(outside.any()), (outside.any(0).nonzero(), sent[outside.any(1)][0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_trees_read_are_the_trees_that_answer(library):
    model, x = booster(library), shop.rows(100, seed=1)
    worst = WorstCase(model, [False] * FINITE.width)
    logits = model(x)
    scores = torch.from_numpy(worst._up.eval(x.numpy())[:, 0]) + worst.base
    assert float((scores - (logits[:, 1] - logits[:, 0])).abs().max()) <= worst.rounding


def test_what_an_attack_knows_decides_at_once_and_a_search_without_steps_leaves_rows_open():
    model = booster("xgboost")
    x = shop.rows(20, seed=5)
    y = model(x).argmax(1)
    known = Enumerate()(model, x, y, THREATS[1])
    said = decide(model, x, y, THREATS[1], known=known, tries=1)
    through = model(known).argmax(1) != y
    assert torch.equal(said.x_adv[through], known[through])
    assert said.decided > 0.8
    wrong = decide(model, x, 1 - y, THREATS[0])
    assert all(each.evadable and each.spent == 0 for each in wrong.certificates)


def test_other_models_are_refused_and_sentences_say_what_is_known():
    with pytest.raises(UsageError, match="XGBoost or LightGBM"):
        decide(lambda x: x, shop.rows(2), torch.zeros(2), THREATS[0])  # type: ignore[arg-type]
    model, x = booster("xgboost"), shop.rows(30, seed=5)
    said = decide(model, x, model(x).argmax(1), THREATS[0]).certificates
    assert {str(each).split(" ")[0] for each in said} >= {"evadable", "the"}
