"""Guards that serve a guaranteed answer: the radius in a verdict is true, and no patch moves an
accepted answer."""

import tomllib
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from buckler.attacks import PGD, PatchAttack
from buckler.certify import Masked
from buckler.defenses import RandomRotation
from buckler.detectors.confidence import Confidence
from buckler.errors import BundleError, UsageError
from buckler.guard import Guard, calibrate, load_bundle, write_bundle
from buckler.guard.answering import Behind, Smoothed
from buckler.guard.bundle import MemberSource, manifest_digest
from buckler.guard.rule import Thresholds
from buckler.inputs import InputSpec
from buckler.models import TorchClassifier
from buckler.testing import LinearModel
from buckler.threats import Goal, LpBall, Patch
from tests.certify.test_masks import SIDE, Gullible, every_patch, images

SIGMA, RADII = 0.5, (0.25, 0.5)
FACTORY = "tests.conftest:tiny_net"


def of(model: nn.Module, shape: tuple[int, ...], names: tuple[str, ...], answering) -> Guard:
    """A guard of one member that flags nothing by its scores."""
    return Guard(
        spec=InputSpec(shape, names, box=(-10.0, 10.0) if len(shape) == 1 else (0.0, 1.0)),
        members=(TorchClassifier(model),),
        weights=(1.0,),
        temperatures=(1.0,),
        detectors=(Confidence(),),
        rule=Thresholds((1e9,), 0),
        answering=answering,
        secret=b"s",
    )


def line(n: int = 2000) -> Guard:
    """Class 0 right of 0: the smoothed classifier's exact radius is |x|."""
    model = LinearModel(torch.tensor([[1.0], [0.0]]), torch.zeros(2))
    return of(model, (1,), ("right", "left"), Smoothed(SIGMA, RADII, n, 32, 0.001))


def test_a_radius_is_never_beyond_the_border_and_a_row_near_it_is_not_certain() -> None:
    """120 rows: each overshoots with probability at most 0.001."""
    x = torch.linspace(-1.5, 1.5, 120)[:, None]
    verdicts = line().judge(x)
    for at, verdict in zip(x[:, 0].tolist(), verdicts, strict=True):
        if verdict.radius is None:
            assert verdict.status == "SUSPICIOUS"
            assert verdict.reasons[0] == "not certified"
            assert abs(at) < 0.45
        else:
            assert verdict.status == "ACCEPTED"
            assert verdict.radius in RADII
            assert verdict.radius <= abs(at)
            assert verdict.prediction == ("right" if at > 0 else "left")
    assert {verdict.radius for verdict in verdicts} == {None, *RADII}


def test_no_input_within_the_radius_is_accepted_as_another_class() -> None:
    """The strongest attack there is on a line: straight at the border, to the radius itself."""
    guard, x = line(), torch.linspace(-1.2, 1.2, 60)[:, None]
    moved = held = 0
    for row, verdict in zip(x, guard.judge(x), strict=True):
        if verdict.radius is None:
            continue
        steps = torch.linspace(0, verdict.radius, 9)[:, None]
        after = guard.judge(row - row.sign() * steps)
        held += 1
        moved += any(v.status == "SUSPICIOUS" for v in after)
        for each in after:
            assert each.status == "SUSPICIOUS" or each.prediction == verdict.prediction
    assert held > 20
    assert moved > 0, "an attacker at the radius reaches rows that are not certain themselves"


def test_the_draws_are_the_secrets_and_the_contents() -> None:
    guard, x = line(), torch.tensor([[0.2], [0.6], [0.2]])
    assert guard.random
    one, again = guard.judge(x), guard.judge(x)
    assert one == again
    assert one[0] == one[2], "the same content, the same draw"
    assert guard.judge(x[1:2]) == one[1:2], "whoever shares the batch"
    other = replace(guard, secret=b"t").judge(torch.linspace(0.1, 0.5, 30)[:, None])
    assert other != guard.judge(torch.linspace(0.1, 0.5, 30)[:, None])


def test_certificates_are_those_of_the_verdicts() -> None:
    guard, x = line(), torch.linspace(0.1, 1.2, 20)[:, None]
    found = guard.certificates(x)
    for verdict, certificate in zip(guard.judge(x), found, strict=True):
        assert (verdict.radius or 0.0) == certificate.radius
        assert certificate.abstained == (verdict.radius is None)
    assert "with probability at least 0.999" in str(found[-1])
    with pytest.raises(UsageError, match="serves its members' own answer"):
        replace(guard, answering=None).certificates(x)
    assert all(v.radius is None for v in replace(guard, answering=None).judge(x))


@pytest.fixture(scope="module")
def smoothed(dataset, trained) -> Guard:
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    answering = Smoothed(0.25, (0.2, 0.4), n=400, n0=32, alpha=0.01)
    return replace(guard, answering=answering, secret=b"s")


@pytest.fixture(scope="module")
def behind(dataset, trained) -> Guard:
    guard = calibrate(dataset, [trained], [1.0], review_rate=0.1)
    return replace(guard, answering=Behind((2, 2), 3, 0.5, abstaining=True))


@pytest.mark.parametrize("kind", ["smoothed", "behind"])
def test_the_view_rejects_exactly_where_judge_is_suspicious(kind, dataset, request) -> None:
    guard = request.getfixturevalue(kind)
    x = dataset["test"].x[:30] * torch.linspace(0.2, 1, 30).view(-1, 1, 1, 1)
    verdicts = guard.judge(x)
    flagged = [verdict.status == "SUSPICIOUS" for verdict in verdicts]
    names = dataset.spec.class_names
    for given in (x, x.clone().requires_grad_()):
        view = guard.attack_view()(given)
        assert (view.argmax(1) == len(names)).tolist() == flagged
        said = [names[k] for k in view[:, :-1].argmax(1).tolist()]
        assert said == [verdict.prediction for verdict in verdicts]
    predicted, accepted = guard.answer(x)
    assert accepted.tolist() == [not each for each in flagged]
    assert torch.equal(guard.classifier()(x).argmax(1), predicted)
    assert 0 < sum(flagged) < len(x)
    own = {reason for verdict in verdicts for reason in verdict.reasons}
    assert own & {"not certified", "masks disagree"}


@pytest.mark.parametrize("kind", ["smoothed", "behind"])
def test_attackers_get_a_gradient(kind, dataset, request) -> None:
    guard = request.getfixturevalue(kind)
    x, y = dataset["test"].x[:8].clone().requires_grad_(), dataset["test"].y[:8]
    loss = Goal("guarded").objective(guard.attack_view((0,))(x), y)
    (grad,) = torch.autograd.grad(loss.sum(), x)
    assert bool((grad.flatten(1).abs().amax(1) > 0).all())


def test_certified_answers_of_a_net_survive_pgd_at_their_radius(smoothed, dataset) -> None:
    """PGD on the members beneath moves the bare net at this radius, and PGD on the served answer;
    accepted points never change class. 12 rows, alpha 0.01: at most 1 of 8 seeds errs once."""
    x, y = dataset["test"].x[:12], dataset["test"].y[:12]
    verdicts = smoothed.judge(x)
    sure = torch.tensor([v.radius is not None for v in verdicts])
    assert int(sure.sum()) >= 8
    x, y = x[sure], smoothed.answer(x)[0][sure]
    radius = torch.tensor([v.radius for v in verdicts if v.radius is not None])
    ball = LpBall("l2", radius)
    for view, goal in (
        (smoothed.beneath(), Goal()),
        (smoothed.attack_view((0,)), Goal("guarded")),
    ):
        steps = 20 if goal == Goal() else 4
        x_adv = PGD(steps=steps, step_size=0.3)(view, x, y, ball.with_goal(goal))
        predicted, accepted = smoothed.answer(x_adv)
        assert bool(((predicted == y) | ~accepted).all())
    far = PGD(steps=20, step_size=0.3)(smoothed.beneath(), x, y, LpBall("l2", 4.0))
    predicted, accepted = smoothed.answer(far)
    assert bool(((predicted != y) & accepted).any()), "beyond the radius nothing is promised"


def test_no_patch_moves_an_accepted_answer_behind_masks() -> None:
    """All 400 patches of black and white on each image. The bare guard falls to many."""
    names = ("a", "b", "c")
    guard = of(Gullible(), (1, SIDE, SIDE), names, Behind((2, 2), 3, 0.5, abstaining=True))
    bare, fooled, answered, refused = replace(guard, answering=None), 0, 0, 0
    for row in images(30):
        label, accepted = guard.answer(row[None])
        if not accepted:
            assert guard.judge(row[None])[0].reasons[0] == "masks disagree"
            continue
        after, still = guard.answer(every_patch(row))
        answered += 1
        refused += bool((~still).any())
        assert bool(((after == label) | ~still).all())
        fooled += bool((bare.answer(every_patch(row))[0] != bare.answer(row[None])[0]).any())
    assert min(answered, fooled, refused) >= 3


def test_double_masking_is_what_is_served_and_certified() -> None:
    model, x = Gullible(), images(36)
    answering = Behind((2, 2), 3, 0.5)
    guard = of(model, (1, SIDE, SIDE), ("a", "b", "c"), answering)
    masked = Masked(model, Patch((2, 2)), 3, 0.5)
    predicted, accepted = guard.answer(x)
    assert torch.equal(predicted, masked.answers(x))
    assert bool(accepted.all())
    assert [c.label for c in guard.certificates(x)] == [c.label for c in masked.certificates(x)]
    sure = torch.tensor([not c.abstained for c in guard.certificates(x)])
    attack = PatchAttack(steps=20, places=4, probe=2, restarts=2)
    x_adv = attack(model, x[sure], predicted[sure], Patch((2, 2)))
    assert torch.equal(guard.answer(x_adv)[0], predicted[sure])
    assert bool((model(x_adv).argmax(1) != predicted[sure]).any())


@pytest.mark.parametrize("kind", ["smoothed", "behind"])
def test_a_bundle_keeps_how_it_answers(kind, dataset, request, tmp_path) -> None:
    guard, path = request.getfixturevalue(kind), tmp_path / "bundle"
    digest = write_bundle(guard, dataset, [MemberSource("one", FACTORY)], path)
    loaded = load_bundle(path, factories=[FACTORY], digest=digest, secret=guard.secret)
    assert loaded.answering == guard.answering
    x: Tensor = dataset["test"].x[:10]
    assert loaded.judge(x) == [replace(v, bundle=digest) for v in guard.judge(x)]
    manifest = tomllib.loads((path / "bundle.toml").read_text())
    assert manifest["format"] == 2, "a version that knows no answering must refuse it"
    plain = write_bundle(
        replace(guard, answering=None), dataset, [MemberSource("one", FACTORY)], path
    )
    manifest = tomllib.loads((path / "bundle.toml").read_text())
    assert (manifest["format"], plain == digest) == (1, False)
    assert "answering" not in manifest


def test_a_manifest_of_another_kind_of_answer_is_refused(smoothed, dataset, tmp_path) -> None:
    import tomli_w

    path = tmp_path / "bundle"
    write_bundle(smoothed, dataset, [MemberSource("one", FACTORY)], path)
    manifest = tomllib.loads((path / "bundle.toml").read_text())
    for change, sentence in (
        ({"answering": {"kind": "spoken"}}, "is not what Buckler writes"),
        ({"format": 1}, "is a bundle of format 1"),
    ):
        altered = {**manifest, **change}
        (path / "bundle.toml").write_text(tomli_w.dumps(altered))
        (path / "DIGEST").write_text(manifest_digest(altered))
        with pytest.raises(BundleError, match=sentence):
            load_bundle(path, factories=[FACTORY])


def test_what_cannot_be_guaranteed_is_refused(smoothed) -> None:
    with pytest.raises(UsageError, match="100 draws can never certify radius 1"):
        Smoothed(0.25, (1.0,), n=100)
    with pytest.raises(UsageError, match="per_side must be >= 1"):
        Behind((2, 2), 0)
    with pytest.raises(UsageError, match="size must be"):
        Behind((0, 2))
    with pytest.raises(UsageError, match="leave random ones out"):
        replace(smoothed, path=(RandomRotation(5.0),))
