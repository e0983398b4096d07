"""The battery: right about honest models, and about models that mislead the attacks on them."""

import dataclasses
import json

import pytest
import torch
from torch import nn

from buckler.assess import Effort, battery, of_model
from buckler.assess.battery import QUESTIONS, naive_test
from buckler.assess.battery.check import DECISIVE, Battery, Check, absent
from buckler.assess.battery.deployed import runs_autograd
from buckler.assess.battery.scene import set_up
from buckler.assess.battery.second_look import stay
from buckler.assess.battery.selftest import _broken, _Line
from buckler.assess.battery.zoo import (
    Decoy,
    Detached,
    Noisy,
    Purified,
    Rounded,
    Scaled,
    Shattered,
    Softmaxed,
    zoo,
)
from buckler.assess.target import Target
from buckler.errors import UsageError
from buckler.models import EstimatorClassifier
from buckler.threats import Goal, LpBall, PixelBudget

THREAT = LpBall("linf", 0.2)
SMALL = Effort(
    rows=24, steps=20, queries=100, noise=50, noise_rows=10, decision_rows=5, decision_queries=60,
    points=8, again=2,
)  # fmt: skip


def target(net, dataset):
    """Without the checks of `of_model`, which refuses some of what is tried here."""

    def answer(x):
        with torch.no_grad():
            predicted = net(x).argmax(1)
        return predicted, torch.ones_like(predicted, dtype=torch.bool)

    return Target("net", net, Goal(), answer, dataset.spec)


def look(net, dataset, **options):
    x, y = dataset["test"].x[:30], dataset["test"].y[:30]
    torch.manual_seed(0)
    return battery(target(net, dataset), x, y, THREAT, effort=SMALL, **options)


def marks(found):
    return {check.number: check.mark for check in found.checks}


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def plain(trained, dataset, told):
    return look(trained, dataset, progress=lambda *shares: told.append(shares))


def test_every_check_that_is_done_is_told_and_the_last_ends_it(plain, told):
    done, totals = zip(*told, strict=True)
    assert len(done) == len(plain.checks)
    assert sorted(set(done)) == list(done)
    assert set(totals) == {done[-1]}


def test_a_plain_net_passes_every_check(plain):
    found = plain
    assert found.verdict == "PASS", found.sentence
    assert found.believable
    assert found.sentence == "No sign that the attacks were misled."
    assert sorted(marks(found)) == list(range(1, 26))
    assert {check.question for check in found.checks} == set(QUESTIONS)


def test_the_file_of_it_is_json_and_asks_six_questions(plain):
    value = json.loads(json.dumps(plain.to_dict()))
    assert [asked["question"] for asked in value["questions"]] == list(QUESTIONS)
    assert all(check["evidence"] for asked in value["questions"] for check in asked["checks"])


def test_the_same_seed_gives_the_same_battery(plain, trained, dataset):
    again = look(trained, dataset)
    assert dataclasses.replace(again, seconds=0) == dataclasses.replace(plain, seconds=0)


@pytest.mark.parametrize(
    "name", ["temperature 100", "median filter", "detached graph", "dropout left on"]
)
def test_some_of_the_zoo_in_small(trained, dataset, name):
    """The whole of it, on nets that learnt more: tests/benchmarks/test_battery_zoo.py, slow."""
    fixture = next(each for each in zoo(trained, trained, trained) if each.name == name)
    inner = None if fixture.undefended is None else target(fixture.undefended, dataset)
    assert look(fixture.model, dataset, undefended=inner).verdict == fixture.expected


def test_large_logits_fail_and_small_ones_do_not(trained, dataset):
    large = look(Scaled(trained, 3000), dataset)
    assert (marks(large)[2], marks(large)[3]) == ("fail", "fail")
    assert large.sentence.startswith("Do not believe this evaluation")
    assert look(Scaled(trained, 0.01), dataset).verdict == "PASS"


def test_rounded_inputs_fail(trained, dataset):
    found = look(Rounded(trained, 3), dataset)
    assert found.verdict == "FAIL"
    assert marks(found)[2] == "fail"
    assert marks(found)[3] == marks(found)[9] == "does not apply"  # as where the graph is cut


def test_a_cut_graph_fails_and_scores_still_look(trained, dataset):
    found = look(Detached(trained), dataset)
    assert found.verdict == "FAIL"
    assert marks(found)[1] == "fail"
    assert marks(found)[3] == marks(found)[9] == "does not apply"
    assert found.naive is None


def test_a_sine_shatters_and_a_decoy_only_warns(trained, dataset):
    assert marks(look(Shattered(trained, 0.1, 400), dataset))[22] == "warn"
    decoy = look(Decoy(trained), dataset)
    assert decoy.verdict == "WARN"
    assert marks(decoy)[21] == "warn"


def test_noise_is_attacked_in_the_mean_and_warns(trained, dataset):
    found = look(Noisy(trained), dataset, undefended=target(trained, dataset))
    assert found.verdict == "WARN"
    assert marks(found)[5] == "warn"
    assert marks(found)[6] == "pass"  # with its draws fixed it falls as the net inside does
    assert "owed" in found.sentence


def test_probabilities_and_optimising_in_forward_warn(trained, dataset):
    assert marks(look(Softmaxed(trained), dataset))[4] == "warn"
    assert marks(look(Purified(trained), dataset))[7] == "warn"


def test_autograd_inside_is_seen_and_an_ordinary_forward_is_not(trained, dataset):
    x = dataset["test"].x[:4]
    assert runs_autograd(Purified(trained), x)
    assert not runs_autograd(trained, x)


def test_a_win_that_the_deployed_system_does_not_share_fails(trained, dataset):
    fine = target(trained, dataset)

    def stubborn(x):
        off_the_grid = (x - dataset.spec.snap(x)).abs().flatten(1).amax(1) > 0
        return fine.answer(x)[0], ~off_the_grid

    split = dataclasses.replace(fine, answer=stubborn)
    x, y = dataset["test"].x[:30], dataset["test"].y[:30]
    found = battery(split, x, y, THREAT, effort=SMALL)
    assert marks(found)[20] == "fail"


def test_a_model_without_gradients_is_looked_at_by_scores_alone(dataset):
    from sklearn.tree import DecisionTreeClassifier

    fit = dataset["fit"]
    tree = DecisionTreeClassifier(random_state=0).fit(fit.x.flatten(1).numpy(), fit.y.numpy())
    x, y = dataset["test"].x[:30], dataset["test"].y[:30]
    model = of_model(EstimatorClassifier(tree), dataset.spec, x)
    assert not model.gradients
    found = battery(model, x, y, THREAT, effort=SMALL)
    without = {1, 2, 3, 4, 6, 8, 9, 10, 15, 17, 19, 21, 22, 23, 24}
    assert {n for n, mark in marks(found).items() if mark == "does not apply"} >= without
    assert marks(found)[7] == "pass"
    assert all(check.evidence for check in found.checks)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_other_norms(trained, dataset, norm):
    x, y = dataset["test"].x[:30], dataset["test"].y[:30]
    eps = {"l2": 1.0, "l1": 4.0}[norm]
    found = battery(target(trained, dataset), x, y, LpBall(norm, eps), effort=SMALL)
    assert found.believable, found.sentence
    assert (marks(found)[12] == "does not apply") == (norm == "l1")


def test_the_naive_test_errs_in_both_directions_and_with_the_batch(trained, dataset):
    """Honest small gradients are called masked; nothing is said of a sine that shatters; and the
    same weights change sides with the batch."""
    x, y = dataset["test"].x, dataset["test"].y
    honest = naive_test(Scaled(trained, 1e-2), x, y)
    shattered = naive_test(Shattered(trained, 0.1, 400), x, y, batch=8)
    assert honest.masked
    assert not shattered.masked
    one, all_ = naive_test(trained, x, y, batch=1), naive_test(trained, x, y, batch=len(x))
    assert one.value == pytest.approx(len(x) * all_.value, rel=1e-3)


def test_the_attacks_own_test_knows_its_borders():
    """The transforms of the broken models move the score less than what parts near from far."""
    w, middle, each = torch.ones(64), torch.full((64,), 0.5), 0.1
    x = torch.rand(50, 64, generator=torch.Generator().manual_seed(0))
    line = _Line(w, middle)
    reach = each * 64
    for name, model in _broken(line, each, 0).items():
        scores = model(x)[:, 1] / (30 if name == "logits × 30" else 1)
        assert float((scores - line(x)[:, 1]).abs().max()) <= 0.26 * reach, name


def test_only_decisive_checks_may_fail():
    with pytest.raises(AssertionError):
        Check(5, "randomness", QUESTIONS[4], 1.0, "", "fail", "")
    assert frozenset({1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 20, 23}) == DECISIVE


def test_rules_27_and_28_owe_no_rerun_and_26_does():
    clean = Battery(10, (absent(1, "a", QUESTIONS[0], "b"),), None, 0.0)
    for number, verdict in ((26, "WARN"), (27, "PASS"), (28, "PASS")):
        rule = Check(number, "rule", "report", 1.0, "", "warn", "why")
        assert clean.adding((rule,)).verdict == verdict


@pytest.mark.parametrize(
    ("options", "said"),
    [({"rows": 0}, "every count of an effort must be >= 1"), ({"steps": 5}, "steps >= 20")],
)
def test_efforts_that_make_no_sense(options, said):
    with pytest.raises(UsageError, match=said):
        Effort(**options)


def test_what_it_cannot_judge_is_said(trained, dataset):
    x, y = dataset["test"].x[:4], dataset["test"].y[:4]
    with pytest.raises(UsageError, match="needs an L-infinity, L2 or L1 ball"):
        battery(target(trained, dataset), x, y, PixelBudget(1))
    with pytest.raises(UsageError, match="rows the model gets right"):
        battery(target(trained, dataset), x, (trained(x).argmax(1) + 1) % 3, THREAT)


class Misled(nn.Module):
    """A net whose backward pass climbs the wrong way: forward is untouched."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x.detach() + (x.detach() - x))


def test_a_wrong_gradient_is_beaten_by_others(trained, dataset):
    found = look(Misled(trained), dataset)
    assert found.verdict == "FAIL"
    assert "fail" in (marks(found)[9], marks(found)[10])  # scores, or a distilled twin, do better


def counting_scene(dataset, trained, monkeypatch, stays):
    """A scene of 60 rows, of which `stays` withstand every attack; and the rows looked at."""
    x = dataset["test"].x[:1].expand(60, 1, 8, 8)
    made = target(trained, dataset)
    scene = set_up(made, x, made.answer(x)[0], THREAT, SMALL, 0, None)
    looked = []

    def broken(self, attack, among, threat=None):
        looked.append(among.nonzero()[:, 0].tolist())
        return among & (torch.arange(60) >= stays)

    monkeypatch.setattr(type(scene), "broken", broken)
    return scene, looked


@pytest.mark.parametrize(("stays", "seen"), [(60, 16), (5, 16), (2, 60)])
def test_a_second_look_ends_once_the_answer_is_known(dataset, trained, monkeypatch, stays, seen):
    scene, looked = counting_scene(dataset, trained, monkeypatch, stays)
    look = stay(scene, torch.ones(60, dtype=torch.bool), enough=3)
    assert len({row for rows in looked for row in rows}) == int(look.at.sum()) == seen
    assert int(look.stuck.sum()) == min(stays, seen)
    looked.clear()
    look = stay(scene, torch.arange(60) < 3, enough=3)  # no more than 3 can stay
    assert not looked
    assert not look.at.any()
